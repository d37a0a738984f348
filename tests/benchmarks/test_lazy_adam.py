"""The benchmark of row-sparse Adam runs as documented and ends with its JSON line."""

import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import lazy_adam

ROOT = pathlib.Path(__file__).parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.lazy_adam", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_small_run_ends_with_the_result():
    done = run_benchmark("--rows=5000", "--keys=300", "--width=3", "--rounds=1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "lazy_adam"
    assert result["in_place"]
    assert 0 < result["first_step_difference"] < 1e-7
    assert result["seconds"] > 0
    assert {"against", "ratio", "temp_mib", "versions", "date"} <= set(result)


@pytest.mark.parametrize(("row", "moved"), [(1, 1e-3), (2, 1e-3)], ids=["touched", "not touched"])
def test_a_table_that_moved_otherwise_is_not_timed(row, moved):
    table = {name: jnp.ones((4, 2)) for name in ("row", "mu", "nu")}
    other = table | {"mu": table["mu"].at[row, 0].add(moved)}
    rows_K = np.array([0, 1])
    assert lazy_adam.first_step_difference(table, table, rows_K) == 0
    with pytest.raises(AssertionError, match="mu"):
        lazy_adam.first_step_difference(table, other, rows_K)


def test_help_has_an_example():
    done = run_benchmark("--help")
    assert done.returncode == 0
    assert "example:\n  python -m benchmarks.lazy_adam --rows=" in done.stdout


def test_more_keys_than_rows_are_wrong_usage():
    done = run_benchmark("--rows=10", "--keys=20")
    assert done.returncode == 2
    assert "needs 0 < keys <= rows" in done.stderr
