"""Preparing a raw log: rows a second, peak memory, growth with size, and Beam's output.

Claim: 20 million impressions and 10 million behaviors become a prepared set on 2 cores within 4 GiB
of memory, in time that grows no faster than the log.

The command runs in a process of its own for each size, the log's files being written before. What
is compared is the time a row takes at a quarter of the size and at the full size: 1 is linear
growth. ``--beam`` prepares the smaller log with Apache Beam too, on its local runner, and compares
every file of the two sets, byte by byte.
"""

import argparse
import filecmp
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import circumstances
from benchmarks._raw_log import write_raw_log

DESCRIPTION = "Times the preparation of a raw log at two sizes, and its peak of memory."
EXAMPLE = """example:
  python -m benchmarks.preparation --impressions=20000000

Ends with one line of JSON: `ratio` is seconds a row at a quarter of the size over seconds a row at
the full size; 1 is linear growth, less is faster than linear."""


def prepared(config: Path, output: Path, *options: str) -> dict[str, Any]:
    """Prepares a log in a process of its own: seconds, peak memory and what was made."""
    command = [sys.executable, "-m", "dicm_jax.prepare", f"--config={config}"]
    command += [f"--output={output}", *options]
    watched = [sys.executable, "-c", _WATCH, *command]
    started = time.perf_counter()
    done = subprocess.run(watched, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"the preparation failed:\n{done.stderr[-2000:]}")
    peak = re.search(r"peak_kib=(\d+)", done.stderr)
    assert peak is not None
    result = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds, "peak_mib": int(peak[1]) / 1024, "splits": result["splits"]}


_WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(f"peak_kib={resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}", file=sys.stderr)
sys.exit(code)
"""


def same_files(first: Path, second: Path) -> bool:
    """Whether two folders hold the same files, byte by byte."""
    names = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (first, second)]
    if names[0] != names[1]:
        return False
    return all(filecmp.cmp(first / name, second / name, shallow=False) for name in names[0])


def measure(impressions: int, *, beam: bool, folder: Path) -> dict[str, Any]:
    """Both sizes, and Beam on the smaller."""
    runs = []
    for size in (impressions // 4, impressions):
        config = write_raw_log(folder / f"log-{size}", size)
        run = prepared(config, folder / f"set-{size}")
        run |= {"impressions": size, "behaviors": size // 2}
        run["impressions_per_s"] = size / run["seconds"]
        print(
            f"{size:,} impressions: {run['seconds']:.1f} s, {run['impressions_per_s']:,.0f}/s,"
            f" peak {run['peak_mib']:,.0f} MiB",
            flush=True,
        )
        runs.append(run)
    small, large = runs
    result = {
        "benchmark": "preparation",
        "against": "the same command at a quarter of the size, seconds a row",
        "ratio": round(large["impressions_per_s"] / small["impressions_per_s"], 3),
        "runs": [
            {k: round(v, 1) if isinstance(v, float) else v for k, v in r.items()} for r in runs
        ],
    }
    if beam:
        config = folder / f"log-{impressions // 4}" / "prepare.py"
        by_beam = prepared(config, folder / "set-beam", "--runner=beam")
        result["beam_seconds"] = round(by_beam["seconds"], 1)
        result["beam_equal"] = same_files(folder / f"set-{impressions // 4}", folder / "set-beam")
        print(f"Beam: {by_beam['seconds']:.1f} s, equal: {result['beam_equal']}", flush=True)
    return result | circumstances("numpy", "pyarrow", "array-record")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preparation",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--impressions", type=int, default=20_000_000, help="of the larger log")
    parser.add_argument("--beam", action="store_true", help="prepare with Beam too, and compare")
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(known.impressions, beam=known.beam, folder=Path(folder))))


if __name__ == "__main__":
    main()
