"""Impressions a second of the input path, against three other ways to read the same impressions.

Claim: planned and ready on the device, a prepared set comes at least 50 times as fast as one group
a record through TFDS and Grain, and 10 times as fast as a PyTorch DataLoader over Parquet; training
waits for input for less than 2 % of its time.

A generated log is written as a prepared set, blocks of 1,024 groups, and its first groups once more
for each rival, as that one's users would: one group a record; Parquet with a row for each
impression; blocks of FuxiCTR. All loaders take turns, at several settings each, of which the best
counts, and what they read is in the cache of files. Rates are impressions a second, so it does not
matter that slow loaders read fewer of them.

*Read* is: records read and decoded, groups mixed, put together to batches, all keys looked up and
padded to 50 behaviors. *Ready* is: after that planned (unique rows of every list, slots, capacity
checked), in threads as in training, and laid out on the device. The rivals of PyTorch end with
tensors of keys and plan nothing; they look up no image keys either. The share of waiting is that of
runs of the training command.
"""

import argparse
import dataclasses
import importlib.util
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._input_log import PER_GROUP, Rows, random_log, rows_of
from benchmarks._input_ours import Ours
from benchmarks._input_records import Records
from benchmarks._input_turns import Loader, Turns, take_turns
from benchmarks._input_wait import wait_shares
from benchmarks._machine import circumstances
from benchmarks._rounds import PerSecond, medians, ratio
from dicm_jax.data.groups import cut
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.schema import ClickLog, GroupedImpressions

DESCRIPTION = "Times the input path against one group a record, PyTorch over Parquet, and FuxiCTR."
EXAMPLE = """example:
  python -m benchmarks.input --hm=../shared/data/hm

PyTorch comes with the extra `bench`, FuxiCTR with `pip install fuxictr`; without them they are left
out, and `left_out` says so. The last line is one of JSON: `ratio` is impressions a second planned
and ready over those of one group a record, planned and ready by the same code; `ratios` has all."""

BLOCK_GROUPS = 1024
_SHARD_GROUPS = 1 << 17
READY, READ = "ours, ready", "ours, read"
RECORDS_READY, RECORDS_READ = "a group a record, ready", "a group a record, read"
BY_HAND, TORCH, FUXICTR = "a group a record, by hand", "PyTorch, Parquet", "FuxiCTR, blocks"
_MEMORY = " from memory"


def loaders(
    log: ClickLog[GroupedImpressions], args: argparse.Namespace, folder: Path
) -> dict[str, list[Loader]]:
    """Writes the log in every form; all loaders, each with its settings."""
    first, batch_size = cut(log.train, 0, args.rival_groups), args.batch_size
    first = dataclasses.replace(log, train=first)
    _write(log, folder / "set", BLOCK_GROUPS)
    _write(first, folder / "records", 1)
    streamed = Ours(folder / "set", batch_size, stream=True)
    in_memory = Ours(folder / "set", batch_size, stream=False)
    records = Records(folder / "records", streamed)
    ahead = streamed.config.train.prefetch + 2
    made = {
        READY: [Loader("", streamed.ready, ahead)],
        READ: [Loader("", streamed.read)],
        READY + _MEMORY: [Loader("", in_memory.ready, ahead)],
        READ + _MEMORY: [Loader("", in_memory.read)],
        RECORDS_READY: [
            Loader(f"{n} threads", lambda n=n: records.ready(n), 2 * (n > 0)) for n in (0, 1)
        ],
        RECORDS_READ: [
            Loader(f"{n} threads", lambda n=n: records.read(n), 2 * (n > 0)) for n in (0, 1, 2)
        ],
        BY_HAND: [Loader("", records.by_hand)],
    }
    return made | _of_torch(rows_of(first), batch_size, args.workers, folder)


def _write(log: ClickLog[GroupedImpressions], folder: Path, block_groups: int) -> None:
    write_log(
        log,
        folder,
        block_groups=block_groups,
        shard_groups=_SHARD_GROUPS,
        storage="int8",
        settings={"block_groups": block_groups},
    )


def _of_torch(
    rows: Rows, batch_size: int, workers: list[int], folder: Path
) -> dict[str, list[Loader]]:
    """The loaders that are there to be run."""
    made = {}
    if is_installed("torch"):
        from benchmarks import _input_torch

        _input_torch.write_parquet(rows, folder / "rows.parquet")
        data = _input_torch.Impressions(folder / "rows.parquet")
        made[TORCH] = [
            Loader(
                f"{n} workers", lambda n=n: _input_torch.read(data, batch_size, workers=n), 2 * n
            )
            for n in workers
        ]
    if is_installed("torch") and is_installed("fuxictr"):
        from benchmarks import _input_fuxictr

        blocks = folder / "blocks"
        _input_fuxictr.write_blocks(rows, blocks)
        made[FUXICTR] = [
            Loader(
                f"{n} workers",
                lambda n=n: _input_fuxictr.read(blocks, batch_size, workers=n),
                2 * n,
            )
            for n in workers
        ]
    return made


def is_installed(package: str) -> bool:
    """Whether a rival can be run."""
    return importlib.util.find_spec(package) is not None


def report(turns: Turns, args: argparse.Namespace) -> dict[str, Any]:
    """The figures, and all that they depend on."""
    paces = turns.paces
    pairs = [(READY, RECORDS_READY), (READ, RECORDS_READ), (READY, RECORDS_READ), (READ, BY_HAND)]
    pairs += [(ours, rival) for rival in (TORCH, FUXICTR) for ours in (READY, READ)]

    def ratios(unit: PerSecond) -> dict[str, float]:
        return {
            f"{ours} / {rival}": ratio(paces[ours], paces[rival], unit)
            for ours, rival in pairs
            if rival in paces
        }

    def rates(unit: PerSecond, impressions: int) -> dict[str, int]:
        return {name: round(pace / impressions) for name, pace in medians(paces, unit).items()}

    return {
        "benchmark": "input",
        "against": "one group a record through TFDS and Grain, planned and laid out alike",
        "ratio": ratio(paces[READY], paces[RECORDS_READY]),
        "ratio_cpu": ratio(paces[READY], paces[RECORDS_READY], "per_cpu_second"),
        "ratios": ratios("per_second"),
        "ratios_cpu": ratios("per_cpu_second"),
        "impressions_per_s": rates("per_second", 1),
        "impressions_per_cpu_s": rates("per_cpu_second", 1),
        "groups_per_s": rates("per_second", PER_GROUP),
        "groups_per_cpu_s": rates("per_cpu_second", PER_GROUP),
        "best_setting": {name: setting for name, setting in turns.best.items() if setting},
        "left_out": [name for name in (TORCH, FUXICTR) if name not in paces],
        "groups": args.groups,
        "rival_groups": args.rival_groups,
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "seconds": args.seconds,
    }


def versions() -> dict[str, Any]:
    """The circumstances, with the versions of the rivals that are there."""
    always = ["jax", "numpy", "grain", "tensorflow-datasets", "array-record", "pyarrow"]
    return circumstances(*always, *(name for name in ("torch", "fuxictr") if is_installed(name)))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=int, default=100_000, help="of ten; default %(default)s")
    parser.add_argument(
        "--rival_groups", type=int, default=20_000, help="that rivals read; default %(default)s"
    )
    parser.add_argument("--batch_size", type=int, default=16_384, help="default %(default)s")
    parser.add_argument(
        "--workers",
        type=lambda text: [int(count) for count in text.split(",")],
        default=[0, 1, 2],
        help="processes of PyTorch's loaders, of which the best counts; default 0,1,2",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn; default %(default)s")
    parser.add_argument(
        "--wait_steps", type=int, default=100, help="of training; 0 trains nothing; default 100"
    )
    parser.add_argument("--hm", type=Path, help="folder of the H&M log, to train on it too")
    parser.add_argument("--folder", help="where the files are made; default: a temporary folder")
    args = parser.parse_args(arguments)
    if not 0 < args.batch_size // PER_GROUP <= args.rival_groups <= args.groups:
        parser.error("needs a batch of groups, and batch_size / 10 <= rival_groups <= groups")
    if args.rounds < 1 or args.seconds <= 0 or args.wait_steps < 0:
        parser.error("needs rounds of at least 1, seconds above 0 and wait_steps of at least 0")
    return args


def main(arguments: list[str]) -> None:
    """Runs the comparison and prints its JSON line."""
    args = parse(arguments)
    multiprocessing.set_start_method("spawn")  # workers forked from threads may hang
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        waits = wait_shares(args.wait_steps, args.hm, folder) if args.wait_steps else {}
        made = loaders(random_log(args.groups), args, folder)
        turns = take_turns(made, args.rounds, args.seconds)
        print(json.dumps(report(turns, args) | {"waiting": waits} | versions()))


if __name__ == "__main__":
    main(sys.argv[1:])
