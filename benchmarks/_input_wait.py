"""The share of training that waits for input: runs of the training command, and what they say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dicm_jax.data.hm import reader as hm
from dicm_jax.data.prepared.from_log import write_log

_KEPT = ("input_wait_share", "samples_per_s", "steps")


def wait_shares(steps: int, hm_folder: Path | None, folder: Path) -> dict[str, dict[str, Any]]:
    """What runs of `steps` steps waited for input, on the built-in data and on the H&M log.

    Args:
      steps: of each run.
      hm_folder: of the H&M log; None leaves it out.
      folder: for what the runs write.
    """
    runs = {"built-in": ["--config=configs/dicm.py", "--config.train.baseline=false"]}
    if hm_folder is not None:
        prepared = _prepared(hm_folder, folder / "hm")
        runs["H&M"] = ["--config=configs/hm.py", f"--config.data.path={hm_folder}"]
        runs["H&M, streamed"] = [
            "--config=configs/hm.py",
            "--config.data.kind=prepared",
            f"--config.data.path={prepared}",
            "--config.data.stream=true",
        ]
    shares = {}
    for number, (name, options) in enumerate(runs.items()):
        shares[name] = _run(steps, [*options, f"--workdir={folder / f'run-{number}'}"])
        print(f"{name}: {shares[name]['input_wait_share']:.2%} waiting for input", flush=True)
    return shares


def _run(steps: int, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "dicm_jax.train", f"--config.train.steps={steps}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"training failed:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {name: result[name] for name in _KEPT}


def _prepared(source: Path, folder: Path) -> Path:
    """The H&M log as a prepared set, its features at rest as `configs/hm.py` has them."""
    write_log(
        hm.load(str(source)),
        folder,
        block_groups=1024,
        shard_groups=1 << 17,
        storage="int8",
        settings={"source": str(source)},
    )
    return folder
