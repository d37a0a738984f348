"""Feature tables in host memory against the same tables in device memory, also under a limit.

Claim: with ``features.tier=host`` a run keeps its losses bit for bit and at least half its speed,
also in a process that may keep less in memory than the table takes, where ``features.tier=device``
does not even start.

The log has many images, shown by a Zipf law; the model, its step and the feed with its threads are
those of the configuration. Each run is a process of its own, and the runs take turns. The limited
run has a copy of the table files that no other process reads and that is not in memory when it
starts, so that every page it reads counts against its own limit. On a CPU the device's memory is
the process's memory.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._host_tier_log import LogSize, read_log, write_rows
from benchmarks._host_tier_run import command, untimed_steps
from benchmarks._machine import circumstances
from benchmarks._memory_limit import MemoryLimit, ending, memory_limit
from benchmarks._rounds import Pace, medians, ratio, take_turns
from dicm_jax.ams import feature_table
from dicm_jax.config_file import load_config
from dicm_jax.data.schema import in_memory
from dicm_jax.features import table_writing

DESCRIPTION = "Training with tables on the host, and under a limit of memory, against the device."
EXAMPLE = """example:
  python -m benchmarks.host_tier --images=60000 --limit_mib=700 --rounds=2 train.batch_size=512

Ends with one line of JSON: `ratio` is the speed of the host tier over that of the device tier,
`ratio_limited` the same of the host tier in the process under the limit."""

TRAINS = "trains"
_WARM_UP = 5  # steps: compiles, and brings the most popular rows into memory
_STATISTICS_OF = 8192  # rows; all come from one law


class Run:
    """A training run in a process of its own."""

    def __init__(self, name: str, arguments: list[str], errors: Path):
        self.name = name
        self.losses: list[float] = []
        self.turns: list[dict[str, Any]] = []
        self._errors = errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def take(self, steps: int) -> int:
        """Takes steps and says how many.

        Raises:
          RuntimeError: the process ended.
        """
        told, said = self._process.stdin, self._process.stdout
        assert told is not None
        assert said is not None
        try:
            print(steps, file=told, flush=True)
            line = said.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the run {self.name!r} ended early: {self.how_it_ended()}")
        self.turns.append(json.loads(line))
        self.losses += self.turns[-1]["losses"]
        return steps

    def how_it_ended(self) -> str:
        """In words; waits for the end."""
        return ending(self._process.wait(), self._errors.read_text())

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # what it was told and did not read
            self._process.communicate()

    def paces(self, samples: int) -> list[Pace]:
        """Of the turns after the first, as the process itself measured them."""
        return [
            Pace(*(turn["steps"] * samples / turn[key] for key in ("seconds", "cpu_seconds")))
            for turn in self.turns[1:]
        ]


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all runs share: sizes, and the folder with the rows and the tables."""

    args: argparse.Namespace
    size: LogSize
    folder: Path

    @property
    def rows(self) -> Path:
        return self.folder / "rows.npy"

    def settings(self, tier: str, tables: str) -> list[str]:
        """Overrides of the configuration."""
        path = self.folder / tables
        own = ["train.epochs=1", f"features.tier={tier}", f"features.path={path}"]
        return [*self.args.overrides, *own]

    def run(self, name: str, tier: str, tables: str, limit: MemoryLimit | None = None) -> Run:
        """Starts a run; it waits to be told to take steps."""
        line = command(self.rows, self.size, self.args.config, self.settings(tier, tables))
        line = line if limit is None else limit.wrapped(line)
        return Run(name, line, self.folder / f"{name}.txt")

    def make_tables(self) -> int:
        """Writes the rows and the tables of the runs; the bytes of one table."""
        write_rows(self.rows, self.size)
        storage = load_config(self.args.config, self.args.overrides).features.storage
        features = in_memory(read_log(self.rows, self.size).features)
        rows_VD, scale_V = features.rows_VD, features.scale_V
        assert scale_V is not None
        stats = feature_table.statistics(rows_VD[:_STATISTICS_OF], scale_V[:_STATISTICS_OF])
        image = self.folder / "free" / "image"
        table_writing.write(image, rows_VD, scale_V, stats, storage, encoder="random bytes")
        shutil.copytree(self.folder / "free", self.folder / "limited")
        os.sync()  # what is not on disk stays in memory
        for path in [self.rows, *(self.folder / "limited" / "image").iterdir()]:
            drop_from_memory(path)
        return sum(path.stat().st_size for path in image.glob("*.rows"))


def drop_from_memory(path: Path) -> None:
    """Makes the system forget the pages of a file, so that who reads it next is charged for it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare(bench: Bench, limit: MemoryLimit, table_bytes: int) -> dict[str, Any]:
    """All runs through the same batches; the figures of the JSON line.

    Raises:
      RuntimeError: a run ended early; or the device tier trains in less memory than its table
        takes, so that the limit says nothing.
      AssertionError: losses of the tiers differ.
    """
    ended = first_step_of(bench.run("device-limited", "device", "limited", limit))
    if ended == TRAINS and table_bytes > limit.n_bytes:
        raise RuntimeError(f"the device tier trains under a limit of {limit.n_bytes} bytes")
    print(f"device tier under the limit: {ended}", flush=True)
    runs = {
        "device": bench.run("device", "device", "free"),
        "host": bench.run("host", "host", "free"),
        "host limited": bench.run("host-limited", "host", "limited", limit),
    }
    try:
        for run in runs.values():
            run.take(_WARM_UP)
        take_turns(
            {name: [_turn(run, bench.args.steps)] for name, run in runs.items()},
            bench.args.rounds,
            "steps",
        )
    finally:
        for run in runs.values():
            run.close()
    samples = load_config(bench.args.config, bench.args.overrides).train.batch_size
    return {**_speeds(runs, samples), **_losses(runs), **_memory(runs), "device_limited": ended}


def _turn(run: Run, steps: int) -> Callable[[], int]:
    return lambda: run.take(steps)


def first_step_of(run: Run) -> str:
    """How a run ends that may not fit; `TRAINS` if it takes a step."""
    try:
        run.take(1)
    except RuntimeError:
        return run.how_it_ended()
    finally:
        run.close()
    return TRAINS


def _speeds(runs: dict[str, Run], samples: int) -> dict[str, Any]:
    paces = {name: run.paces(samples) for name, run in runs.items()}
    device = paces["device"]
    return {
        "ratio": ratio(paces["host"], device),
        "ratio_limited": ratio(paces["host limited"], device),
        "ratio_cpu": ratio(paces["host"], device, "per_cpu_second"),
        "ratio_limited_cpu": ratio(paces["host limited"], device, "per_cpu_second"),
        "samples_per_s": {name: round(pace) for name, pace in medians(paces).items()},
    }


def _losses(runs: dict[str, Run]) -> dict[str, Any]:
    """How far losses are from those of the device tier.

    Raises:
      AssertionError: by more than 1e-6: then the runs do not do the same.
    """
    device = runs["device"].losses
    apart = {
        name: max(abs(x - y) for x, y in zip(run.losses, device, strict=True))
        for name, run in runs.items()
    }
    assert max(apart.values()) <= 1e-6, apart
    return {
        "steps_compared": len(device),
        "largest_loss_difference": max(apart.values()),
        "losses_equal_bits": not any(apart.values()),
        "last_loss": device[-1],
    }


def _memory(runs: dict[str, Run]) -> dict[str, Any]:
    names = ("peak_rss_mib", "rss_anon_mib", "pages_read")
    return {key: {name: run.turns[-1][key] for name, run in runs.items()} for key in names}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.host_tier",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/dicm.py", help="default %(default)s")
    parser.add_argument("--images", type=int, default=400_000, help="default 400,000")
    parser.add_argument("--width", type=int, default=4096, help="of a row; default 4,096")
    parser.add_argument("--zipf", type=float, default=1.0, help="exponent; default 1.0")
    parser.add_argument("--limit_mib", type=int, default=1280, help="default 1,280")
    parser.add_argument("--limit_kind", choices=("cgroup", "rlimit"), help="default: what holds")
    parser.add_argument("--steps", type=int, default=10, help="of each run a round; default 10")
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument("--seed", type=int, default=0, help="of the log; default 0")
    parser.add_argument("--folder", help="where files are made; default: for temporary files")
    parser.add_argument("overrides", nargs="*", help="settings of the config, each a.b=value")
    args = parser.parse_args(arguments)
    if min(args.images, args.width, args.limit_mib, args.steps, args.rounds) < 1:
        parser.error("needs images, width, limit_mib, steps and rounds of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    config = load_config(args.config, args.overrides)
    batch_size, turns = config.train.batch_size, args.rounds + 1
    steps = _WARM_UP + args.steps * args.rounds + turns * untimed_steps(config)
    impressions = steps * batch_size * 11 // 10  # lanes may close early
    size = LogSize(args.images, args.width, impressions, args.zipf, args.seed)
    with (
        tempfile.TemporaryDirectory(prefix="host_tier_", dir=args.folder) as folder,
        memory_limit(args.limit_mib * 2**20, args.limit_kind) as limit,
    ):
        bench = Bench(args, size, Path(folder))
        table_bytes = bench.make_tables()
        result = {
            "benchmark": "host_tier",
            "against": "features.tier=device without a limit",
            **compare(bench, limit, table_bytes),
            "table_bytes": table_bytes,
            "limit_bytes": limit.n_bytes,
            "limit_kind": limit.kind,
            "limit_peak_bytes": limit.peak_bytes(),
            "limit_times_reached": limit.times_reached(),
            "images": args.images,
            "width": args.width,
            "zipf": args.zipf,
            "batch_size": batch_size,
            "rounds": args.rounds,
            **circumstances("jax", "numpy"),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
