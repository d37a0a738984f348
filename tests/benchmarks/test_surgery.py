"""The benchmark of surgery runs as documented, and fails where a command does."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import surgery
from benchmarks._memory_limit import MemoryLimit

ROOT = pathlib.Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.surgery", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result(tmp_path):
    done = run_benchmark("--mib=2", "--limit_mib=1024", f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    commands = ["verify", "drop", "cast", "resize", "to-safetensors", "from-safetensors", "diff"]
    assert list(result["peak_mib"]) == list(result["seconds"]) == commands
    assert result["benchmark"] == "surgery"
    assert result["checkpoint_bytes"] == 14 * 1024 * 3 * 12 * 4  # 2 MiB in whole shards
    assert result["limit_bytes"] == 2**30
    assert result["limit_kind"] in ("cgroup", "rlimit")
    assert {"against", "ratio", "date", "versions"} <= set(result)
    assert not list(tmp_path.iterdir())


def test_a_command_that_fails_ends_it(tmp_path):
    free = MemoryLimit("rlimit", 2**40)
    with pytest.raises(RuntimeError, match=r"surgery verify .* ended with 1: .*no finished check"):
        surgery.run(free, "verify", str(tmp_path))


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "example:\n  python -m benchmarks.surgery --mib=" in done.stdout


def test_no_size_is_wrong_usage():
    done = run_benchmark("--mib=0")
    assert done.returncode == 2
    assert "needs mib and limit_mib" in done.stderr
