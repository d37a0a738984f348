"""The benchmark of tiers runs as documented, and the limit that it stands on holds."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import _memory_limit, host_tier
from benchmarks._memory_limit import MemoryLimit, ending, memory_limit

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--images=1500",
    "--width=16",
    "--limit_mib=1024",
    "--steps=2",
    "--rounds=1",
    "train.batch_size=64",
    "data.behaviors=5",
    "model.images=ad",
    "model.compressor_widths=(8,12)",
    "model.attention_widths=(4,)",
    "model.head_widths=(4,)",
]
MIB = 2**20
HOLD = "import sys; data = b'x' * int(sys.argv[1]); print(len(data))"


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.host_tier", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result(tmp_path):
    done = run_benchmark(*TINY, f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "host_tier"
    assert result["losses_equal_bits"]
    assert result["steps_compared"] > host_tier._WARM_UP + 2
    assert result["table_bytes"] == 1500 * (16 + 4)  # int8 rows and their factors
    assert result["device_limited"] == host_tier.TRAINS  # such a table fits
    assert result["limit_kind"] in ("cgroup", "rlimit")
    assert result["limit_bytes"] == 1024 * MIB
    figures = {"ratio", "ratio_limited", "samples_per_s", "peak_rss_mib", "pages_read"}
    assert figures | {"against", "versions", "date"} <= set(result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["cgroup", "rlimit"])
def test_a_limit_stops_what_takes_more_and_nothing_else(kind):
    groups = set(_groups())
    try:
        with memory_limit(200 * MIB, kind) as limit:
            assert limit.kind == kind
            codes = [_hold(limit, size) for size in (100 * MIB, 250 * MIB)]
            peak, reached = limit.peak_bytes(), limit.times_reached()
    except RuntimeError as error:
        pytest.skip(str(error))
    assert codes[0] == 0
    assert codes[1] != 0
    if kind == "cgroup":
        assert peak is not None
        assert reached is not None
        assert 100 * MIB < peak <= 200 * MIB
        assert reached > 0
    assert set(_groups()) == groups


def _hold(limit: MemoryLimit, size: int) -> int:
    command = limit.wrapped([sys.executable, "-c", HOLD, str(size)])
    return subprocess.run(command, capture_output=True, check=False).returncode


def _groups() -> list[pathlib.Path]:
    return [path for root in _memory_limit.CONTROLLERS for path in root.glob("dicm_jax_*")]


def test_a_limit_that_does_not_hold_is_refused(monkeypatch):
    monkeypatch.setattr(MemoryLimit, "wrapped", lambda self, command: command)
    wanted = r"no limit of 1048576 bytes that holds could be set"
    with pytest.raises(RuntimeError, match=wanted), memory_limit(MIB):
        pass


def test_a_run_that_ends_early_says_how(tmp_path):
    crash = [sys.executable, "-c", "raise MemoryError('no room')"]
    run = host_tier.Run("host", crash, tmp_path / "errors.txt")
    with pytest.raises(RuntimeError, match=r"the run 'host' ended early: code 1: .*no room"):
        run.take(1)
    run.close()
    assert host_tier.first_step_of(
        host_tier.Run("device", crash, tmp_path / "errors.txt")
    ).endswith("MemoryError: no room")
    assert ending(-9, "") == "killed by SIGKILL"


def test_losses_that_differ_are_not_timed(tmp_path):
    runs = {
        name: host_tier.Run(name, [sys.executable, "-c", ""], tmp_path / name)
        for name in ("device", "host")
    }
    runs["device"].losses, runs["host"].losses = [0.7, 0.6], [0.7, 0.60001]
    with pytest.raises(AssertionError, match="host"):
        host_tier._losses(runs)
    for run in runs.values():
        run.close()


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "example:\n  python -m benchmarks.host_tier --images=" in done.stdout


def test_no_images_are_wrong_usage():
    done = run_benchmark("--images=0")
    assert done.returncode == 2
    assert "needs images" in done.stderr
