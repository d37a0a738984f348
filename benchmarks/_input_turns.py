"""Loaders that take turns: each gives batches for some seconds, as often as there are rounds."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from benchmarks._rounds import Pace

Batches = Generator[int, None, None]
"""The impressions of one batch after another, without end."""


class Loader(NamedTuple):
    """A way to get batches, at one of its settings.

    Attributes:
      setting: what distinguishes it from the same loader's other settings.
      start: begins it.
      ahead: batches that it may have ready before it is asked, at most.
    """

    setting: str
    start: Callable[[], Batches]
    ahead: int = 0


class Turns(NamedTuple):
    """What came of the turns.

    Attributes:
      paces: impressions by the clock and by the cores' time, each loader's in each round, each at
        the setting that was best then.
      best: the setting that was most often best by the clock.
    """

    paces: dict[str, list[Pace]]
    best: dict[str, str]


def take_turns(loaders: dict[str, list[Loader]], rounds: int, seconds: float) -> Turns:
    """How fast each loader was in each round.

    Args:
      loaders: the settings of each, by its name.
      rounds: how often each setting has its turn.
      seconds: of a turn.
    """
    running = {
        name: [(setting, setting.start()) for setting in settings]
        for name, settings in loaders.items()
    }
    paces: dict[str, list[Pace]] = {name: [] for name in loaders}
    wins: dict[str, list[str]] = {name: [] for name in loaders}
    for turn in range(rounds):
        for name, settings in running.items():
            tried = {
                loader.setting: _turn(batches, loader.ahead, seconds)
                for loader, batches in settings
            }
            paces[name].append(Pace(*(max(values) for values in zip(*tried.values(), strict=True))))
            wins[name].append(max(tried, key=lambda setting: tried[setting].per_second))
        line = "  ".join(f"{name} {pace[-1].per_second:,.0f}" for name, pace in paces.items())
        print(f"round {turn + 1} of {rounds}, impressions/s:  {line}", flush=True)
    for _, batches in itertools.chain.from_iterable(running.values()):
        batches.close()
    return Turns(paces, {name: max(won, key=won.count) for name, won in wins.items()})


def _turn(batches: Batches, ahead: int, seconds: float) -> Pace:
    """The pace of one turn; what lay ready, and the first batch after that, are not counted."""
    for _ in range(ahead + 1):
        next(batches)
    started, cpu_started, impressions = time.perf_counter(), cpu_seconds(), 0
    # At least one batch, also where the machine takes its time between these lines.
    while not impressions or time.perf_counter() - started < seconds:
        impressions += next(batches)
    taken, cpu_taken = time.perf_counter() - started, cpu_seconds() - cpu_started
    return Pace(impressions / taken, impressions / cpu_taken)


def cpu_seconds() -> float:
    """What this process and those that it keeps as workers have used of the cores, on Linux."""
    workers = [Path(f"/proc/{child.pid}/stat") for child in multiprocessing.active_children()]
    ticks = sum(sum(map(int, _after_name(stat)[11:13])) for stat in workers)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _after_name(stat: Path) -> list[str]:
    """The fields behind the name, which may hold blanks: user and system time are 11 and 12."""
    return stat.read_text().rpartition(")")[2].split()
