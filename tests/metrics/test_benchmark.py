"""The metrics benchmark runs as documented and ends with its JSON line."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.metrics", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result():
    done = run_benchmark("--impressions=3000", "--users=300", "--loop-users=50", "--repeats=1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "metrics"
    assert result["gauc_difference"] < 1e-9
    assert result["ratio"] > 1
    assert result["impressions"] == result["scores"]["impressions"] == 3000
    counts = result["scores"]
    assert counts["users_counted"] + counts["users_left_out"] == 300
    assert {"against", "seconds", "peak_rss_mib", "versions", "date"} <= set(result)


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "example:\n  python -m benchmarks.metrics --impressions=" in done.stdout


def test_sizes_that_make_no_log_are_wrong_usage():
    done = run_benchmark("--impressions=10", "--users=20")
    assert done.returncode == 2
    assert "needs 0 < loop-users <= users <= impressions" in done.stderr
