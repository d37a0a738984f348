"""The benchmark of splitting a batch runs to its end at a tiny size."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--config.data.world.users=100",
    "--config.data.world.items=1300",
    "--config.data.world.content_width=64",
    "--config.model.compressor_widths=(16,8,12)",
    "--config.model.attention_widths=(8,)",
    "--config.model.head_widths=(16,)",
]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.overhead", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_cost_of_each_number_of_devices():
    done = run_benchmark("--devices=1,2", "--batch_size=256", "--steps=1", "--rounds=1", *TINY)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "overhead"
    assert result["cost"].keys() == {"1 devices", "2 devices"}
    assert result["cost"]["1 devices"] == 1.0
    assert {"against", "ratio", "cpu_seconds_per_step", "versions", "date"} <= set(result)


def test_help_has_an_example():
    assert (
        "example:\n  python -m benchmarks.overhead --batch_size=" in run_benchmark("--help").stdout
    )


def test_no_steps_is_wrong_usage():
    done = run_benchmark("--steps=0")
    assert done.returncode == 2
    assert "needs steps, rounds and devices of at least 1" in done.stderr
