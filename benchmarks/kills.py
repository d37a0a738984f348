"""Training killed with SIGKILL again and again, against the same training left in peace.

Claim: a run that is killed at any moment, in saves too, goes on from its newest finished checkpoint
when it is started again, and ends with the same bits in every array of its last checkpoint as the
straight run.

Half of the kills come at moments drawn evenly over the length of a whole run, its start and its end
included; the other half are aimed at saves: at a moment drawn evenly from the appearance of a
save's temporary folder to a little after the save's end. Of several processes one drawn at random
is killed, and the others end as a launcher ends them (SIGTERM, then SIGKILL); one time in four all
are killed at once. A run that reaches its end is compared, and another begins, until there were
enough kills.

The state holds what rounding owes to gradients too (``exchange.id_wire=bfloat16``).
"""

import argparse
import dataclasses
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import absl.logging
import numpy as np
from tqdm import tqdm

from benchmarks._killed_run import (
    Attempt,
    Spec,
    arrays,
    differing,
    finished_steps,
    losses,
    newest_step,
)
from benchmarks._machine import circumstances

DESCRIPTION = "Kills a training run with SIGKILL again and again; compares it with a straight run."
EXAMPLE = """example:
  python -m benchmarks.kills --kills=50 --processes=1,4

Ends with one line of JSON: `ratio` is the share of restarts that went on from the newest finished
checkpoint, of those that were not killed before they could say so; it must be 1."""

SETTINGS = (
    "data.world.items=10000",
    "data.world.users=150",
    "data.world.content_width=37",
    "data.world.train_days=4",
    "data.world.test_days=2",
    "model.compressor_widths=(16,8,12)",
    "model.attention_widths=(8,4)",
    "model.head_widths=(16,8)",
    "exchange.id_wire=bfloat16",
    "exchange.feedback_rows=4096",
    "train.batch_size=64",
    "train.epochs=20",
    "train.log_every=1",
    "train.baseline=false",
    "evaluate.batch_size=256",
)
"""A run of seconds, with an ID table large enough for saves to take a while."""


@dataclasses.dataclass(frozen=True)
class Straight:
    """The run in peace.

    Attributes:
      arrays: of its last checkpoint.
      losses: of its steps.
      seconds: from start to end, with all programs compiled before.
      save_s: the longest that a save was seen in flight.
    """

    arrays: dict[str, np.ndarray]
    losses: list[tuple[int, float]]
    seconds: float
    save_s: float


@dataclasses.dataclass
class Count:
    """What happened to the runs that were killed."""

    kills: int = 0
    kills_in_saves: int = 0
    kills_of_all: int = 0
    restarts: int = 0
    restarts_that_went_on: int = 0
    restarts_killed_before: int = 0
    steps_lost_most: int = 0
    runs_compared: int = 0


def run_in_peace(spec: Spec, workdir: Path) -> Straight:
    """A whole run."""
    attempt = Attempt(spec, workdir, 0)
    begun: dict[tuple[str, int], float] = {}
    longest = 0.0

    def watch() -> bool:
        nonlocal longest
        now = attempt.seconds
        for save in attempt.saves.in_flight():
            longest = max(longest, now - begun.setdefault(save, now))
        return False

    try:
        attempt.runs_until(watch)
        seconds = attempt.seconds
    finally:
        attempt.end()
    return Straight(arrays(workdir), losses(workdir), seconds, longest)


def anywhere(attempt: Attempt, straight: Straight, moments: random.Random) -> Callable[[], bool]:
    """A moment of the length of a whole run."""
    seconds = moments.uniform(0, straight.seconds)
    return lambda: attempt.seconds >= seconds


def in_a_save(attempt: Attempt, straight: Straight, moments: random.Random) -> Callable[[], bool]:
    """A moment of one of the next saves, or shortly after it, when older ones are deleted."""
    which, delay = moments.randint(1, 3), moments.uniform(0, 1.3 * straight.save_s)
    seen: set[tuple[str, int]] = set()
    begun = math.inf

    def moment() -> bool:
        nonlocal begun
        if begun == math.inf:
            seen.update(attempt.saves.in_flight())
            begun = attempt.seconds if len(seen) >= which else begun
        return attempt.seconds >= begun + delay

    return moment


class Killer:
    """Kills runs of one spec, starts them again, and checks what they say and end with.

    Args:
      spec: of the runs.
      straight: what they must end with.
      folder: of their files.
      moments: when, where and whom to kill.
      bar: moves with every kill.
    """

    def __init__(
        self, spec: Spec, straight: Straight, folder: Path, moments: random.Random, bar: tqdm
    ):
        self.spec, self.straight, self.folder = spec, straight, folder
        self.moments, self.bar = moments, bar
        self.count = Count()

    def run(self, kills: int) -> None:
        """One run after the other, until `kills` were made and the last one has ended in peace."""
        while self.count.kills < kills:
            workdir = self.folder / f"killed{self.count.runs_compared}"
            attempts = 0
            while self._killed(workdir, attempts, in_peace=self.count.kills >= kills):
                attempts += 1
            self._compare(workdir)
            self.count.runs_compared += 1
            shutil.rmtree(workdir)

    def _killed(self, workdir: Path, number: int, *, in_peace: bool) -> bool:
        """Starts the run (again); whether it was killed, or else has ended well."""
        expected = max(finished_steps(workdir), default=None)
        attempt = Attempt(self.spec, workdir, number)
        draw = self.moments.choice((anywhere, in_a_save))
        moment = (lambda: False) if in_peace else draw(attempt, self.straight, self.moments)
        try:
            came = attempt.runs_until(moment)
            if came:
                self._kill(attempt)
        finally:
            attempt.end()
        if number:
            self._check_restart(attempt, expected)
        return came

    def _kill(self, attempt: Attempt) -> None:
        everybody = list(range(self.spec.processes))
        whom = everybody
        if self.spec.processes > 1 and self.moments.random() < 0.75:
            whom = [self.moments.choice(everybody)]
        attempt.saves.in_flight()  # forget what the attempt has cleaned up
        finished, reached = finished_steps(attempt.workdir), newest_step(attempt.workdir)
        attempt.kill(whom)
        lost = (reached or 0) - max(finished_steps(attempt.workdir), default=0)
        left = finished_steps(attempt.workdir)
        if finished and max(left, default=-1) < finished[-1]:
            raise RuntimeError(f"a finished checkpoint is gone: {finished} before, {left} after")
        self.count.kills += 1
        self.count.kills_in_saves += bool(attempt.saves.in_flight())
        self.count.kills_of_all += whom is everybody
        self.count.steps_lost_most = max(self.count.steps_lost_most, lost)
        self.bar.update()

    def _check_restart(self, attempt: Attempt, expected: int | None) -> None:
        """A restart goes on from the newest finished checkpoint, if there was one."""
        said = attempt.went_on_from()
        self.count.restarts += 1
        if said is None and not attempt.opened_records():
            self.count.restarts_killed_before += 1
            return
        if said != expected:
            raise RuntimeError(
                f"went on from step {said}; the newest finished checkpoint was {expected}:"
                f" {attempt.last_words()}"
            )
        self.count.restarts_that_went_on += 1

    def _compare(self, workdir: Path) -> None:
        unequal = differing(self.straight.arrays, arrays(workdir))
        if unequal:
            raise RuntimeError(f"{workdir}: not the bits of the straight run: {unequal}")
        if losses(workdir) != self.straight.losses:
            raise RuntimeError(f"{workdir}/metrics.jsonl: not the losses of the straight run")


def compare(spec: Spec, kills: int, folder: Path, seed: int) -> dict[str, Any]:
    """Kills runs of one spec `kills` times; what happened."""
    first = run_in_peace(spec, folder / "first")  # compiles
    straight = run_in_peace(spec, folder / "straight")
    unequal = differing(first.arrays, straight.arrays)
    if unequal:
        raise RuntimeError(f"two straight runs differ in {unequal}: nothing can be shown")
    started = time.perf_counter()
    with tqdm(total=kills, desc=f"{spec.processes} process(es)", unit="kill") as bar:
        killer = Killer(spec, straight, folder, random.Random(seed), bar)
        killer.run(kills)
    return dataclasses.asdict(killer.count) | {
        "arrays_compared": len(straight.arrays),
        "bytes_compared": sum(array.nbytes for array in straight.arrays.values()),
        "straight_seconds": round(straight.seconds, 2),
        "save_seconds_most": round(straight.save_s, 3),
        "seconds": round(time.perf_counter() - started),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """What was asked for; ends with code 2 on numbers that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=50, help="of each; default 50")
    parser.add_argument("--processes", default="1,4", help="numbers of processes; default 1,4")
    parser.add_argument("--steps", type=int, default=200, help="of a run; default 200")
    parser.add_argument("--every", type=int, default=5, help="steps between saves; default 5")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default 0")
    parser.add_argument("overrides", nargs="*", help="settings of the run, each a.b=value")
    args = parser.parse_args(arguments)
    args.processes = [int(number) for number in args.processes.split(",")]
    if min(args.kills, args.steps, args.every, *args.processes) < 1:
        parser.error("needs kills, steps, every and processes of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Kills and compares, for each number of processes, and prints the JSON line.

    The files of the runs are kept where something is not as claimed.
    """
    args = parse(arguments)
    absl.logging.set_verbosity(absl.logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="kills_"))
    print(f"runs in {folder}", flush=True)
    course = (f"train.steps={args.steps}", f"checkpoint.every={args.every}")
    settings = (*SETTINGS, *course, *args.overrides)
    found = {}
    for processes in args.processes:
        own = folder / str(processes)
        own.mkdir()
        spec = Spec(processes, settings, folder / "compiled")
        found[processes] = compare(spec, args.kills, own, args.seed)
        print(f"{processes} process(es): {json.dumps(found[processes])}", flush=True)
    shutil.rmtree(folder)
    could = sum(of["restarts"] - of["restarts_killed_before"] for of in found.values())
    result = {
        "benchmark": "kills",
        "against": "the same run, never killed",
        "ratio": sum(of["restarts_that_went_on"] for of in found.values()) / could,
        "by_processes": found,
        "equal_bits": True,  # else there is no such line
        "steps": args.steps,
        "every": args.every,
        "seed": args.seed,
        **circumstances("jax", "orbax-checkpoint"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
