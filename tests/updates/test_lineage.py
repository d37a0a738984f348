"""The lineage file: what it keeps, whom it trusts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dicm_jax.checkpoint import manifest
from dicm_jax.errors import CheckpointError, ConfigError, DataError
from dicm_jax.updates import lineage
from dicm_jax.updates.lineage import Lineage, alone, manifest_crc32


def _entry(line: Path, day: str, *, promoted: bool = True) -> dict[str, Any]:
    """An entry of a day, with a checkpoint of one small file."""
    folder = line / day / "checkpoints" / "7"
    folder.mkdir(parents=True)
    (folder / "state").write_text(f"learnt on {day}")
    manifest.write(folder)
    crc = manifest_crc32(folder)
    return {
        "day": day,
        "checkpoint": {"folder": "checkpoints", "step": 7, "manifest_crc32": crc},
        "decision": {"promoted": promoted},
    }


def _line(folder: Path) -> Lineage:
    """Three days of which the last was refused."""
    days = Lineage(folder).with_day(_entry(folder, "mon")).with_day(_entry(folder, "tue"))
    days = days.with_day(_entry(folder, "wed", promoted=False))
    days.save()
    return days


def test_a_line_that_has_not_begun_has_no_parent(tmp_path):
    assert lineage.load(tmp_path).parent() is None
    assert lineage.load(tmp_path / "nowhere").days == ()


def test_what_is_saved_is_loaded_and_a_refused_day_is_no_parent(tmp_path):
    days = _line(tmp_path)
    assert lineage.load(tmp_path) == days
    parent = days.parent()
    assert parent is not None
    assert (parent.day, parent.workdir) == ("tue", tmp_path / "tue")
    assert parent.checkpoint == tmp_path / "tue" / "checkpoints" / "7"
    assert [entry["day"] for entry in days.days] == ["mon", "tue", "wed"]
    assert days.entry("thu") is None


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_an_altered_lineage_is_refused(tmp_path, place):
    _line(tmp_path)
    path = tmp_path / lineage.NAME
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"lineage.json: altered since it was written: the CRC-32"):
        lineage.load(tmp_path)


def test_a_lineage_of_a_later_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "_VERSION", 2)
    _line(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"version 2 of the format; this dicm_jax reads versions"):
        lineage.load(tmp_path)


def test_a_parent_that_is_gone_is_named(tmp_path):
    days = _line(tmp_path)
    (tmp_path / "tue" / "checkpoints" / "7").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"current run of the line is 'tue', and its .* gone"):
        days.parent()


def test_another_checkpoint_in_the_parents_place_is_refused(tmp_path):
    days = _line(tmp_path)
    folder = tmp_path / "tue" / "checkpoints" / "7"
    (folder / "state").write_text("learnt elsewhere")
    manifest.write(folder)
    found, kept = manifest_crc32(folder), days.days[1]["checkpoint"]["manifest_crc32"]
    words = f"not the checkpoint that was promoted: the CRC-32 of its manifest is {found}, in"
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        days.parent()
    assert kept in str(caught.value)


def test_the_file_can_be_read_by_people_and_other_programs(tmp_path):
    _line(tmp_path)
    found = json.loads((tmp_path / lineage.NAME).read_text())
    assert found["current"] == "tue"
    assert found["days"][2]["decision"] == {"promoted": False}


def test_two_at_once_in_one_line_is_an_error(tmp_path):
    with alone(tmp_path / "line"):
        words = r"--line=.*line: another command is updating this line; let it end"
        with pytest.raises(ConfigError, match=words), alone(tmp_path / "line"):
            pass
    with alone(tmp_path / "line"), alone(tmp_path / "other"):
        pass
