"""Small trained runs and their servable, made once for all tests of exporting and serving.

They are made by the command lines, in processes of their own: what tests look at is what a user
gets. Processes compile without optimization, which takes most of the time otherwise.
"""

import dataclasses
import fcntl
import os
import subprocess
import sys
from pathlib import Path

from dicm_jax.serving.buckets import Bucket

ROOT = Path(__file__).parents[2]
SMALL = (
    "data.world.items=400",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "data.world.test_days=1",
    "model.compressor_widths=16,8,12",
    "model.attention_widths=8,4",
    "model.head_widths=16,8",
    "optimizer.learning_rate=0.01",
    "train.batch_size=256",
    "train.epochs=2",
    "evaluate.batch_size=1024",
)
"""A run of seconds, whose scores are not all alike."""
PRERANK = ("model.stage=prerank", "model.aggregator=sum", "model.tower_widths=16,6")
_QUICK = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
BUCKETS = (Bucket(1, 32), Bucket(1, 64), Bucket(4, 128))
"""Of rankers in tests: quickly compiled, with one user and with several."""
ROOM = 40
"""Of rankers in tests: two and a half calls of a compressor."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """Folders of trained runs on one log.

    Attributes:
      dicm: with images; its baseline lies in it.
      prerank: of Pre-rank.
    """

    dicm: Path
    prerank: Path


def command(module: str, *arguments: str) -> list[str]:
    """A command line of the project."""
    return [sys.executable, "-m", f"dicm_jax.{module}", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Of the processes that tests start."""
    return os.environ | _QUICK | changes


def start(line: list[str], **changes: str) -> subprocess.Popen:
    """A process of the project; what it says goes to pipes, as text."""
    return subprocess.Popen(
        line,
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen, seconds: float = 300) -> tuple[str, str]:
    """Waits for a process that must succeed; what it said on stdout and on stderr."""
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, err
    return out, err


def once(folder: Path) -> Runs:
    """The runs in a folder, and ``servable`` beside them; made there if they are not yet."""
    runs = Runs(folder / "dicm", folder / "prerank")
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # several processes of one test run share them
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "servable").is_dir():
            _make(folder, runs)
    return runs


def _make(folder: Path, runs: Runs) -> None:
    settings = [f"--config={ROOT / 'configs/dicm.py'}"]
    settings += [f"--config.{setting}" for setting in SMALL]
    prerank = ["--config.train.baseline=false", *(f"--config.{setting}" for setting in PRERANK)]
    both = [
        start(command("train", *settings, f"--workdir={runs.dicm}")),
        start(command("train", *settings, *prerank, f"--workdir={runs.prerank}")),
    ]
    for process in both:
        ended(process)
    output = folder / "servable"
    arguments = [f"--workdir={runs.dicm}", f"--prerank={runs.prerank}", "--examples=6"]
    ended(start(command("export", *arguments, f"--output={output}")))
