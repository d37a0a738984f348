"""The benchmark of saving runs as documented."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

from benchmarks import saving
from benchmarks._saving_run import Turn

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--mib=4",
    "--rounds=2",
    "--steps=1",
    "data.world.users=100",
    "data.world.items=1300",
    "data.world.content_width=64",
    "model.compressor_widths=(16,8,12)",
    "model.attention_widths=(8,)",
    "model.head_widths=(16,)",
    "train.batch_size=64",
]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.saving", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_both_shares(tmp_path):
    done = run_benchmark(*TINY, f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "saving"
    assert result["state_bytes"] >= 4 * 2**20
    assert len(result["held_s"]) == len(result["lost_s"]) == 2
    assert all(seconds > 0 for seconds in result["first_step_s"])
    assert {"ratio", "blocked_share", "lost_share", "against", "versions", "date"} <= set(result)
    assert not list(tmp_path.iterdir())


def test_what_is_lost_is_what_the_steps_would_not_have_taken():
    turn = Turn(steps=11, seconds=4.0, held_s=0.5, first_step_s=0.5)
    kept = saving.Round(turn, step_s=0.2)
    assert kept.blocked_s == pytest.approx(0.8)
    assert kept.lost_s == pytest.approx(1.8)
    assert kept.slowdown == pytest.approx(1.5)
    quick = saving.Round(Turn(1, 0.4, 0.3, 0.1), 0.2)
    assert quick.blocked_s == 0.3  # a quick step brings nothing back
    assert math.isnan(quick.slowdown)
    report = saving.report([kept, quick, kept])
    assert report["ratio"] == 0.97
    assert report["blocked_share"] == round(0.8 / 60, 5)


def test_help_has_an_example():
    assert "example:\n  python -m benchmarks.saving --mib=" in run_benchmark("--help").stdout


def test_no_rounds_are_wrong_usage():
    done = run_benchmark("--rounds=0")
    assert done.returncode == 2
    assert "needs mib, rounds and steps" in done.stderr
