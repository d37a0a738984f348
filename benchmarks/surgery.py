"""Surgery on a checkpoint in less memory than one of its arrays takes.

Claim: `python -m dicm_jax.surgery` drops, casts, resizes, converts to safetensors and back and
verifies a checkpoint of 6 GiB in a process that may keep 1 GiB in memory, and what went to
safetensors and back is equal to the bit.

The checkpoint is saved by `dicm_jax.checkpoint.manager`, as a run does, by one device. Each command
is a process of its own under the limit, which is shown to hold; its peak is what the system says of
the process, which leaves out the pages of files that the system keeps for it as long as there is
room.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import circumstances
from benchmarks._memory_limit import MemoryLimit, memory_limit
from benchmarks._surgery_checkpoint import ARRAYS, WIDTH
from dicm_jax.ams.layout import VIRTUAL_SHARDS, RowLayout

DESCRIPTION = "Times surgery on a large checkpoint under a limit of memory."
EXAMPLE = """example:
  python -m benchmarks.surgery --mib=600 --limit_mib=400

Ends with one line of JSON: `ratio` is the size of the checkpoint over the most memory that any
command took."""
_ROW_BYTES = len(ARRAYS) * WIDTH * 4


@dataclasses.dataclass(frozen=True)
class Took:
    """What a command took.

    Attributes:
      seconds: by the clock.
      peak_mib: the most memory that its process held.
    """

    seconds: float
    peak_mib: float


def run(limit: MemoryLimit, *arguments: str) -> Took:
    """Runs a command of surgery under the limit.

    Raises:
      RuntimeError: it failed; with its message.
    """
    command = [sys.executable, "-m", "dicm_jax.surgery", *arguments]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(limit.wrapped(command), stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(
                f"surgery {' '.join(arguments)} ended with {process.returncode}:"
                f" {errors.read()[-1000:]}"
            )
    unit = 1 if sys.platform == "darwin" else 1024
    peak = used.ru_maxrss * unit / 2**20
    return Took(round(time.perf_counter() - started, 1), round(peak, 1))


def compare(folder: Path, n_keys: int, limit: MemoryLimit) -> dict[str, Took]:
    """Runs the commands one after the other; each leaves only what the next one needs."""
    source = str(folder / "run" / "checkpoints")
    took = {}
    for name, arguments in (
        ("verify", []),
        ("drop", ["ids.mu"]),
        ("cast", ["ids.*=bfloat16"]),
        ("resize", [f"--vocabulary=user={n_keys // 2 + n_keys // 10}", "--scale=0.01"]),
    ):
        output = folder / name
        asked = [] if name == "verify" else [f"--output={output}"]
        took[name] = _told(name, run(limit, name, source, *arguments, *asked))
        shutil.rmtree(output, ignore_errors=True)
    files, back = folder / "safetensors", folder / "back"
    for name, arguments in (
        ("to-safetensors", [source, f"--output={files}", "--max-file-size=1GiB"]),
        ("from-safetensors", [str(files), f"--output={back}"]),
    ):
        took[name] = _told(name, run(limit, name, *arguments))
    shutil.rmtree(files)
    took["diff"] = _told("diff", run(limit, "diff", source, str(back)))
    return took


def _told(name: str, took: Took) -> Took:
    print(f"{name}: {took.seconds} s, peak {took.peak_mib} MiB", flush=True)
    return took


def parse(arguments: list[str]) -> argparse.Namespace:
    """The sizes asked for; ends with code 2 on those that make no benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.surgery",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=6144, help="of the checkpoint; default 6,144")
    parser.add_argument("--limit_mib", type=int, default=1024, help="default 1,024")
    parser.add_argument("--limit_kind", choices=("cgroup", "rlimit"), help="default: what holds")
    parser.add_argument("--folder", help="where files are made; default: for temporary files")
    args = parser.parse_args(arguments)
    if min(args.mib, args.limit_mib) < 1:
        parser.error("needs mib and limit_mib of at least 1")
    return args


def main(arguments: list[str]) -> None:
    """Runs the commands and prints the JSON line."""
    args = parse(arguments)
    n_keys = max(1, args.mib * 2**20 // _ROW_BYTES // VIRTUAL_SHARDS) * VIRTUAL_SHARDS
    n_bytes = RowLayout(n_keys).n_rows * _ROW_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="surgery_", dir=args.folder) as folder,
        memory_limit(args.limit_mib * 2**20, args.limit_kind) as limit,
    ):
        save = [sys.executable, "-m", "benchmarks._surgery_checkpoint"]
        sizes = [f"{folder}/run/checkpoints", str(n_keys), str(RowLayout(n_keys).n_rows)]
        subprocess.run([*save, *sizes], check=True)
        print(f"a checkpoint of {n_bytes / 2**20:,.0f} MiB is saved", flush=True)
        took = compare(Path(folder), n_keys, limit)
        result: dict[str, Any] = {
            "benchmark": "surgery",
            "against": "the size of the checkpoint",
            "ratio": round(n_bytes / 2**20 / max(each.peak_mib for each in took.values()), 2),
            "peak_mib": {name: each.peak_mib for name, each in took.items()},
            "seconds": {name: each.seconds for name, each in took.items()},
            "checkpoint_bytes": n_bytes,
            "largest_array_bytes": n_bytes // len(ARRAYS),
            "round_trip_equal": True,  # else diff had failed
            "limit_bytes": limit.n_bytes,
            "limit_kind": limit.kind,
            "limit_peak_bytes": limit.peak_bytes(),
            "limit_times_reached": limit.times_reached(),
            **circumstances("jax", "orbax-checkpoint", "tensorstore", "numpy"),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
