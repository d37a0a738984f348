"""Programs that take turns, so that whatever else the machine does hits all of them.

Ratios are taken within a round and their median over rounds is what counts: a slow moment of the
machine spoils one round, not the comparison.
"""

import statistics
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

Program = Callable[[], int]
"""Does a turn's work to the end and says how much that was, in the unit of the benchmark."""

PerSecond = Literal["per_second", "per_cpu_second"]


class Pace(NamedTuple):
    """Work done per second of the clock, and per second of the cores' work.

    The clock says what a user gets. The cores' time says the same on an idle machine, and stays
    what it is when other programs take their share of the cores.
    """

    per_second: float
    per_cpu_second: float


def take_turns(programs: dict[str, list[Program]], rounds: int, unit: str) -> dict[str, list[Pace]]:
    """How fast each program was in each round, at its best setting.

    Args:
      programs: the settings of each program, by its name.
      rounds: how often each setting has its turn.
      unit: of the work, for the line printed after each round.
    """
    paces: dict[str, list[Pace]] = {name: [] for name in programs}
    for turn in range(rounds):
        for name, settings in programs.items():
            tried = [timed(program) for program in settings]
            paces[name].append(Pace(*(max(numbers) for numbers in zip(*tried, strict=True))))
        line = "  ".join(f"{name} {pace[-1].per_second:,.1f}" for name, pace in paces.items())
        print(f"round {turn + 1} of {rounds}, {unit}/s:  {line}", flush=True)
    return paces


def timed(program: Program) -> Pace:
    """The pace of one turn."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work = program()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Pace(work / seconds, work / cpu_seconds)


def ratio(ours: list[Pace], against: list[Pace], unit: PerSecond = "per_second") -> float:
    """The median over rounds of how many times faster `ours` was."""
    pairs = zip(ours, against, strict=True)
    return round(statistics.median(getattr(x, unit) / getattr(y, unit) for x, y in pairs), 3)


def medians(paces: dict[str, list[Pace]], unit: PerSecond = "per_second") -> dict[str, float]:
    """The median pace of each program."""
    return {
        name: statistics.median(getattr(pace, unit) for pace in rounds)
        for name, rounds in paces.items()
    }
