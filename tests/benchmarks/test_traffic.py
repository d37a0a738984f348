"""The traffic benchmark runs as documented and ends with its JSON line."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.traffic", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_arguments_it_prints_the_papers_table():
    done = run_benchmark()
    assert done.returncode == 0, done.stderr
    per_step = done.stdout.split("\n\n")[0].splitlines()
    assert len({len(line) for line in per_step}) == 1  # aligned
    assert [" ".join(line.split()) for line in per_step[1:]] == [
        "ps_worker 5.12 GiB 0 B 128.17 MiB 0 B",
        "ps_server 133.98 MB 30.25 MB 5.13 GiB 5.00 GiB",
        "ams 133.98 MB 30.25 MB 158.17 MiB 30.00 MiB",
    ]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "traffic"
    assert result["ratio"] == pytest.approx(32, rel=0.04)
    assert result["batches"] == 65_000
    assert result["bytes"]["ams"]["image_traffic"]["step"] == 30 * 2**20
    assert {"against", "versions", "date", "sizes"} <= set(result)


def test_other_sizes_on_our_wire():
    done = run_benchmark(
        "--impressions=1024",
        "--images=1923",
        "--ids=20000",
        "--width=37",
        "--embedding=4",
        "--samples=10240",
        "--table-images=5000",
        "--content-bytes=2",
        "--wire=int8",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["batches"] == 10
    assert result["bytes"]["ams"]["image_traffic"]["step"] == 1923 * 2 * (4 + 1 + 4)
    assert result["bytes"]["ps_server"]["image_traffic"]["step"] == 1923 * (37 * 2 + 4)
    assert result["bytes"]["ps_server"]["server_storage"]["run"] == 5000 * 37 * 2


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "examples:\n  python -m benchmarks.traffic" in done.stdout


def test_sizes_that_make_no_run_are_wrong_usage():
    done = run_benchmark("--images=0")
    assert done.returncode == 2
    assert "images=0: every size must be at least 1" in done.stderr
