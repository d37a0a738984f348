"""The benchmark of kills runs as documented, and finds what it is there to find."""

import json
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest
from tqdm import tqdm

from benchmarks import _killed_run, kills
from benchmarks._killed_run import Attempt, Saves, Spec, differing

ROOT = pathlib.Path(__file__).parents[2]
TINY = ["--kills=2", "--processes=1", "--steps=12", "--every=2", "data.world.items=400"]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.kills", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_few_kills_end_with_the_result():
    done = run_benchmark(*TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "kills"
    assert result["ratio"] == 1
    found = result["by_processes"]["1"]
    assert found["kills"] == found["restarts"] == 2
    assert found["restarts_that_went_on"] + found["restarts_killed_before"] == 2
    assert found["runs_compared"] >= 1
    assert found["arrays_compared"] > 20
    assert {"against", "versions", "date"} <= set(result)


def test_every_bit_counts():
    one = {"a": np.array([0.0, 1.0], np.float32), "b": np.arange(3)}
    assert not differing(one, {name: array.copy() for name, array in one.items()})
    assert differing(one, one | {"a": np.array([-0.0, 1.0], np.float32)}) == ["a"]
    assert differing(one, one | {"b": np.arange(3, dtype=np.int32)}) == ["b"]
    assert differing(one, one | {"b": np.arange(3)[None]}) == ["b"]
    assert differing(one, {"a": one["a"]}) == ["b"]


def test_a_save_in_flight_is_not_what_an_earlier_kill_left(tmp_path):
    folder = tmp_path / "checkpoints"
    (folder / "10.orbax-checkpoint-tmp").mkdir(parents=True)
    (folder / "5").mkdir()
    saves = Saves(tmp_path)
    assert not saves.in_flight()
    (folder / "15.orbax-checkpoint-tmp").mkdir()
    assert {step for step, _ in saves.in_flight()} == {"15"}
    (folder / "10.orbax-checkpoint-tmp").rmdir()
    (folder / "15.orbax-checkpoint-tmp").rmdir()
    assert not saves.in_flight()
    (folder / "10.orbax-checkpoint-tmp").mkdir()  # again, perhaps with the same inode
    assert {step for step, _ in saves.in_flight()} == {"10"}


class _Ended:
    """An attempt that said it goes on from `step`, or said nothing."""

    def __init__(self, step: int | None):
        self._step = step

    def went_on_from(self) -> int | None:
        return self._step

    def opened_records(self) -> bool:
        return True

    def last_words(self) -> str:
        return "bye"


@pytest.mark.parametrize(("said", "expected"), [(5, 10), (10, 5), (None, 5)])
def test_going_on_from_elsewhere_is_refused(tmp_path, said, expected):
    spec = Spec(1, (), tmp_path)
    peace = kills.Straight({}, [], 1.0, 0.1)
    with tqdm(disable=True) as bar:
        killer = kills.Killer(spec, peace, tmp_path, random.Random(0), bar)
    message = f"went on from step {said}; the newest finished checkpoint was {expected}: bye"
    with pytest.raises(RuntimeError, match=message):
        killer._check_restart(_Ended(said), expected)  # pyright: ignore[reportArgumentType]


def test_a_run_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(_killed_run, "MODULE", "benchmarks._no_such_module")
    attempt = Attempt(Spec(1, (), tmp_path / "cache"), tmp_path / "run", 0)
    with pytest.raises(RuntimeError, match=r"a process failed, codes \[1\]: (?s:.*)_no_such_mod"):
        attempt.runs_until(lambda: False)


def test_help_has_an_example():
    assert "example:\n  python -m benchmarks.kills --kills=" in run_benchmark("--help").stdout


def test_no_kills_are_wrong_usage():
    done = run_benchmark("--kills=0")
    assert done.returncode == 2
    assert "needs kills" in done.stderr
