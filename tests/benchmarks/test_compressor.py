"""The benchmark of the compressor agrees with PyTorch, or says what it needs."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import compressor
from dicm_jax.errors import DicmError

ROOT = pathlib.Path(__file__).parents[2]
NO_TORCH = "PyTorch is not installed; the extra `bench` has it"


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.compressor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result():
    pytest.importorskip("torch", reason=NO_TORCH)
    done = run_benchmark("--rows=300", "--batch=90", "--width=40", "--rounds=1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "compressor"
    assert set(result["images_per_s"]) == {
        *("torch", "torch_autocast", "float32", "bfloat16", "int8"),
        *("roof_float32", "roof_bfloat16", "roof_float32_jax", "roof_bfloat16_jax"),
    }
    # Rounding shows in each format, and in the wider ones less.
    differences = result["differences"]
    assert 0 < differences["float32"] < 1e-5 < differences["bfloat16"] < differences["int8"]
    assert {"against", "ratio", "ratio_roof", "cost_int8", "versions", "date"} <= set(result)


def test_results_that_differ_from_torch_are_not_timed():
    pytest.importorskip("torch", reason=NO_TORCH)
    from benchmarks import _compressor_torch as peer

    problem = compressor.Problem(rows=300, batch=90, width=40, seed=0)
    ours = compressor.ours(problem, "float32", "float32", devices=1)
    vectors_KE, gradients = ours.results()
    expected = [np.asarray(vectors_KE), *peer.in_order_of_torch(gradients)]
    assert compressor._differences({"float32": [ours]}, expected) == {"float32": 0.0}
    expected[-1] = expected[-1] * 1.001
    with pytest.raises(DicmError, match=r"float32 differs from PyTorch by 0\.001, over"):
        compressor._differences({"float32": [ours]}, expected)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_torch_it_says_how_to_get_it():
    done = run_benchmark("--rows=300", "--batch=90")
    assert done.returncode == 1
    assert "PyTorch is not installed" in done.stderr
    assert "pip install -e '.[bench]'" in done.stderr


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "example:\n  python -m benchmarks.compressor --rows=" in done.stdout


def test_a_batch_larger_than_the_table_is_wrong_usage():
    done = run_benchmark("--rows=10", "--batch=20")
    assert done.returncode == 2
    assert "needs 0 < batch <= rows" in done.stderr
