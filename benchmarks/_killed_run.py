"""A training run in processes of its own that may be killed at any moment, seen from outside."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[1]
MODULE = "benchmarks._caching_train"
RECORDS = "metrics.jsonl"
_GOES_ON = re.compile(r"going on from step (\d+) of")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is run, again and again.

    Attributes:
      processes: of the run, each with one device.
      settings: of `dicm_jax.train`, each ``a.b=value``.
      cache: folder of compiled programs, one in it for each process: a restart takes seconds.
      limit_s: seconds after which an attempt is taken to hang.
      grace_s: seconds between SIGTERM and SIGKILL for processes that have lost one.
    """

    processes: int
    settings: Sequence[str]
    cache: Path
    limit_s: float = 300.0
    grace_s: float = 0.5


def finished_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that have their final name, ascending."""
    folder = workdir / "checkpoints"
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdigit())


class Saves:
    """The saves of a run in flight, told apart from what an earlier attempt left behind."""

    def __init__(self, workdir: Path):
        self._folder = workdir / "checkpoints"
        self._left = self._temporary()

    def in_flight(self) -> set[tuple[str, int]]:
        """Step and inode of folders of this attempt that have not got their final name yet."""
        found = self._temporary()
        self._left &= found
        return found - self._left

    def _temporary(self) -> set[tuple[str, int]]:
        try:
            with os.scandir(self._folder) as entries:
                unfinished = [entry for entry in entries if not entry.name.isdigit()]
                return {(entry.name.split(".")[0], entry.inode()) for entry in unfinished}
        except FileNotFoundError:
            return set()


class Attempt:
    """One start of a run, until it ends or is killed.

    Args:
      spec: of the run.
      workdir: of the run; what the processes print goes to files beside it.
      number: of the attempt.
    """

    def __init__(self, spec: Spec, workdir: Path, number: int):
        self.workdir, self.saves = workdir, Saves(workdir)
        self._records_before = _written_at(workdir / RECORDS)
        self._spec, self._started = spec, time.perf_counter()
        self._said = [
            workdir.parent / f"{workdir.name}-{number}-{p}" for p in range(spec.processes)
        ]
        port = _free_port()
        self._running = [self._start(process, port) for process in range(spec.processes)]

    def _start(self, process: int, port: int) -> subprocess.Popen:
        command = [sys.executable, "-m", MODULE, "--config=configs/dicm.py"]
        command += [f"--config.{setting}" for setting in self._spec.settings]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(self._spec.cache / str(process)),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONUNBUFFERED": "1",  # what it says is read after a kill
        }
        if self._spec.processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(self._spec.processes),
                "JAX_PROCESS_ID": str(process),
            }
        with self._said[process].open("w") as file:
            return subprocess.Popen(
                [*command, f"--workdir={self.workdir}"],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started

    def runs_until(self, moment: Callable[[], bool]) -> bool:
        """Waits for the moment; False if the run ends before it.

        Raises:
          RuntimeError: a process failed, or the run hangs.
        """
        while not moment():
            codes = [process.poll() for process in self._running]
            if any(codes):
                self.end()
                raise RuntimeError(f"a process failed, codes {codes}: {self.last_words()}")
            if all(code == 0 for code in codes):
                return False
            if self.seconds > self._spec.limit_s:
                self.end()
                raise RuntimeError(f"no end after {self._spec.limit_s} s: {self.last_words()}")
            time.sleep(0.002)
        return True

    def kill(self, processes: Sequence[int]) -> None:
        """SIGKILL for some processes at once; the others are then ended as a launcher would."""
        for process in processes:
            self._running[process].kill()
        others = [p for n, p in enumerate(self._running) if n not in processes]
        for process in others:
            process.send_signal(signal.SIGTERM)
        deadline = time.perf_counter() + self._spec.grace_s
        for process in others:
            try:
                process.wait(max(0.0, deadline - time.perf_counter()))
            except subprocess.TimeoutExpired:
                process.kill()
        for process in self._running:
            process.wait()

    def end(self) -> None:
        """Kills what still runs."""
        self.kill(range(len(self._running)))

    def went_on_from(self) -> int | None:
        """The step that the run said it goes on from; None if it has not (yet) said so."""
        said = _GOES_ON.search(self._said[0].read_text())
        return int(said[1]) if said else None

    def opened_records(self) -> bool:
        """Whether this attempt got past the place where it says what it goes on from."""
        return _written_at(self.workdir / RECORDS) != self._records_before

    def last_words(self) -> str:
        """The end of what each process printed."""
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self._said)


def newest_step(workdir: Path) -> int | None:
    """The last step in the run's records; with ``train.log_every=1`` the last one looked at."""
    steps = [step for step, _ in losses(workdir)]
    return steps[-1] if steps else None


def losses(workdir: Path) -> list[tuple[int, float]]:
    """Step and loss of every complete training line of the run's records."""
    path = workdir / RECORDS
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of a run's newest checkpoint, whoever saved it."""
    folder = workdir.absolute() / "checkpoints" / str(finished_steps(workdir)[-1])
    found = {}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        for item in ("state", "errors"):
            if (folder / item).is_dir():
                tree = reader.metadata(folder / item).item_metadata.tree
                as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in tree}
                restored = reader.restore(
                    folder / item, args=ocp.args.PyTreeRestore(restore_args=as_numpy)
                )
                found |= {f"{item}/{name}": np.asarray(x) for name, x in restored.items()}
    return found


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Names of arrays that are not the same in every bit."""
    return [
        name
        for name in sorted({*one, *other})
        if name not in one or name not in other or not _same_bits(one[name], other[name])
    ]


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    same_form = one.dtype == other.dtype and one.shape == other.shape
    return same_form and one.tobytes() == other.tobytes()


def _written_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
