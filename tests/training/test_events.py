"""The lines of a run that goes on: none lost, none twice."""

import json
import os
from pathlib import Path

import pytest

from dicm_jax.errors import DataError
from dicm_jax.training.events import Events


def _write(folder: Path, resumed_at: int, steps: range) -> None:
    with Events(folder, resumed_at) as events:
        for step in steps:
            events.write("train", step, {"loss": 1 / step})


def _steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_steps_that_are_taken_again_stand_once(tmp_path):
    _write(tmp_path, 0, range(1, 9))
    _write(tmp_path, 5, range(6, 8))
    assert _steps(tmp_path) == [1, 2, 3, 4, 5, 6, 7]


def test_a_line_cut_short_by_a_kill_is_written_again(tmp_path):
    _write(tmp_path, 0, range(1, 5))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    _write(tmp_path, 3, range(4, 6))
    assert _steps(tmp_path) == [1, 2, 3, 4, 5]


def test_a_kill_at_the_start_loses_no_line(tmp_path, monkeypatch):
    _write(tmp_path, 0, range(1, 5))

    def killed(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Events(tmp_path, 2)
    assert _steps(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("line", ["\0\0\0", "[1]", '{"kind": "train"}'])
def test_another_line_is_named(tmp_path, line):
    _write(tmp_path, 0, range(1, 3))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        print(line, file=file)
    with pytest.raises(DataError, match=r"metrics\.jsonl has a line that no run writes, .*take it"):
        Events(tmp_path, 2)
