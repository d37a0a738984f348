"""A preparation that stops goes on; whatever happened, its set is that of a straight run."""

import collections
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dicm_jax import sealed_json
from dicm_jax.data.prepared.reader import load
from dicm_jax.errors import DataError
from dicm_jax.preparation import local, mapping, output
from dicm_jax.preparation.spill import Spill
from dicm_jax.preparation.unfinished import WORK, alone
from tests.preparation import small_log, stopped

ROOT = Path(__file__).parents[2]
SETTINGS = stopped.SETTINGS


class StoppedError(Exception):
    """What ends a preparation in these tests."""


@pytest.fixture(name="log", scope="module")
def _log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    return small_log.write(small_log.tables(31), folder / "log", files=2)


@pytest.fixture(name="straight", scope="module")
def _straight(log, features):
    local.prepare(small_log.config(log, features, **SETTINGS), log.parent / "straight")
    return small_log.contents(log.parent / "straight")


def _count_calls(monkeypatch, module, name, stop_at=None):
    """Counts the calls of a function; the one of number `stop_at` raises `StoppedError`."""
    calls = []
    function = getattr(module, name)

    def counted(*args, **keywords):
        if len(calls) == stop_at:
            raise StoppedError
        calls.append(args)
        return function(*args, **keywords)

    monkeypatch.setattr(module, name, counted)
    return calls


def _moments(log, features, place, monkeypatch):
    """How many times a preparation makes a file safe on disk."""
    with monkeypatch.context() as patch:
        calls = _count_calls(patch, sealed_json, "sync")
        local.prepare(small_log.config(log, features, **SETTINGS), place)
    return len(calls)


def test_goes_on_after_an_error_at_any_moment(log, features, straight, monkeypatch):
    config = small_log.config(log, features, **SETTINGS)
    moments = _moments(log, features, log.parent / "counted", monkeypatch)
    assert moments > 30
    for moment in range(0, moments - 1, 5):  # the last one is after the set has its name
        place = log.parent / f"stopped-{moment}"
        with monkeypatch.context() as patch:
            _count_calls(patch, sealed_json, "sync", moment)
            with pytest.raises(StoppedError):
                local.prepare(config, place)
        with pytest.raises(DataError, match=r"preparation is not finished.*run the same"):
            load(str(place))
        local.prepare(config, place)
        assert small_log.contents(place) == straight
        assert not place.with_name(f".{place.name}.unfinished").exists()


STAGES = {
    "map": (mapping, "mapped"),
    "by_item": (local, "with_item_statistics"),
    "by_user": (local, "groups_of_users"),
    "write": (output, "write_shard"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_done_is_not_done_again(log, features, straight, monkeypatch, stage):
    config = small_log.config(log, features, **SETTINGS)
    place = log.parent / f"again-{stage}"
    with monkeypatch.context() as patch:
        _count_calls(patch, *STAGES[stage], 2)
        with pytest.raises(StoppedError):
            local.prepare(config, place)
    done = list(STAGES)[: list(STAGES).index(stage)]
    calls = {name: _count_calls(monkeypatch, *STAGES[name]) for name in STAGES}
    reads = collections.Counter()
    read = Spill.read
    monkeypatch.setattr(
        Spill, "read", lambda *args: reads.update([args[0]._folder.name]) or read(*args)
    )
    local.prepare(config, place)
    for name in done:
        assert not calls[name]
    whole = {"map": 6, "by_item": 3, "by_user": 3, "write": 7}
    assert len(calls[stage]) == whole[stage] - 2
    if stage == "write":
        assert reads == {"by_user": len(calls["write"])}
    assert small_log.contents(place) == straight


def test_killed_again_and_again(log, features, straight):
    """By SIGKILL, at seven moments in a row."""
    place = log.parent / "killed"
    lines = _run_stopped(log, features, place, "kill", 0, 3, 9, 9, 8, 4, 0)
    assert lines[::2] == ["killed by 9"] * 7
    assert all("preparation is not finished" in line for line in lines[1::2])
    local.prepare(small_log.config(log, features, **SETTINGS), place)
    assert small_log.contents(place) == straight


def test_a_full_disk_is_told_and_room_is_enough_to_go_on(log, features, straight):
    """No file may grow beyond what is given: the first tries end in one stage after the other."""
    place = log.parent / "full"
    lines = _run_stopped(log, features, place, "room", 900, 2_500, 9_000, 30_000)
    assert len(lines) == 8
    for error, no_set in zip(lines[::2], lines[1::2], strict=True):
        assert "full: the set cannot be written (" in error
        assert "File too large" in error
        assert "see to room on the disk and to leave to write, then run the same command" in error
        assert "preparation is not finished" in no_set
    assert any("array_record" in line for line in lines)
    local.prepare(small_log.config(log, features, **SETTINGS), place)
    assert small_log.contents(place) == straight


def _run_stopped(log, features, place, how, *moments):
    command = [sys.executable, "-m", "tests.preparation.stopped"]
    command += [str(log), str(features), str(place), how, *map(str, moments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_goes_on_only_with_the_same_settings(log, features, straight, monkeypatch):
    place = log.parent / "settings"
    config = small_log.config(log, features, **SETTINGS)
    _stop(config, place, monkeypatch)
    for setting, value, message in (
        ("history__most", 5, "history.most was 6, now it is 5"),
        ("runner__chunk_rows", 81, "runner.chunk_rows was 80, now it is 81"),
        ("ids__hashed", ("page",), r'ids.hashed was \[\], now it is \["page"\]'),
        ("policy__missing", "drop", 'policy.missing was "error", now it is "drop"'),
    ):
        other = small_log.config(log, features, **SETTINGS | {setting: value})
        with pytest.raises(DataError, match=f"other settings or other files: {message}; finish"):
            local.prepare(other, place)
    # Threads change nothing.
    local.prepare(small_log.config(log, features, **SETTINGS | {"runner__workers": 2}), place)
    assert small_log.contents(place) == straight


def _stop(config, place, monkeypatch):
    with monkeypatch.context() as patch:
        _count_calls(patch, sealed_json, "sync", 9)
        with pytest.raises(StoppedError):
            local.prepare(config, place)


@pytest.mark.parametrize("change", ["longer", "same length", "one more", "one less"])
def test_goes_on_only_with_the_same_files(tmp_path, features, monkeypatch, change):
    log = small_log.write(small_log.tables(32), tmp_path / "log", kind="csv", files=3)
    config = small_log.config(log, features)
    _stop(config, tmp_path / "set", monkeypatch)
    file = log / "impressions" / "part-001.csv"
    if change == "longer":
        file.write_text(file.read_text() + "u1,item-1,1577836800,1,,1\n")
    elif change == "same length":
        time.sleep(0.01)
        file.write_text(file.read_text().replace("search", "SEARCH"))
    elif change == "one more":
        file.with_name("part-009.csv").write_bytes(file.read_bytes())
    else:
        file.unlink()
    with pytest.raises(DataError, match=r"other files: .*/part-00\d.csv was .*; finish that one,"):
        local.prepare(config, tmp_path / "set")


def test_now_is_when_it_first_started(log, features, monkeypatch):
    """A row of the future does not turn into one of the past while a preparation rests."""
    place = log.parent / "now"
    config = small_log.config(log, features, policy__now=None, **SETTINGS)
    early = small_log.START + 20 * small_log.DAY
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: float(early))
        with pytest.raises(DataError, match=r"after now .2020-01-21"):
            local.prepare(config, place)
    with pytest.raises(DataError, match=r"after now .2020-01-21"):
        local.prepare(config, place)


def test_a_folder_made_before_the_first_record_is_made_anew(log, features, straight):
    place = log.parent / "early"
    (place.with_name(".early.unfinished") / "dicm_log").mkdir(parents=True)
    (place.with_name(".early.unfinished") / "dicm_log" / "junk").write_text("junk")
    local.prepare(small_log.config(log, features, **SETTINGS), place)
    assert small_log.contents(place) == straight


def test_the_set_has_its_name_before_the_work_is_removed(log, features, straight, monkeypatch):
    """Half the work without the set would look like work to go on with."""
    place = log.parent / "cleared"
    with monkeypatch.context() as patch:
        patch.setattr("dicm_jax.preparation.unfinished.shutil.rmtree", _no_rmtree)
        with pytest.raises(StoppedError):
            local.prepare(small_log.config(log, features, **SETTINGS), place)
    found = small_log.contents(place)
    assert {name: found[name] for name in straight} == straight
    assert load(str(place)).train.n_groups > 0


def _no_rmtree(path):
    raise StoppedError


def test_two_processes_cannot_make_the_same_set(log, features, straight, monkeypatch):
    place = log.parent / "twice"
    config = small_log.config(log, features, **SETTINGS)
    _stop(config, place, monkeypatch)
    with (
        alone(place.with_name(".twice.unfinished")),
        pytest.raises(DataError, match="another process is making this set; let it end, or end"),
    ):
        local.prepare(config, place)
    local.prepare(config, place)
    assert small_log.contents(place) == straight


def test_an_altered_record_is_not_believed(log, features, monkeypatch):
    place = log.parent / "altered"
    config = small_log.config(log, features, **SETTINGS)
    with monkeypatch.context() as patch:
        _count_calls(patch, output, "write_shard", 0)
        with pytest.raises(StoppedError):
            local.prepare(config, place)
    record = place.with_name(".altered.unfinished") / WORK / "map" / "job-000001.json"
    record.write_text(record.read_text().replace('"counts": {', '"counts": {"x": 1,', 1))
    with pytest.raises(DataError, match="altered since it was written"):
        local.prepare(config, place)


def test_the_output_must_be_free(log, features, straight, tmp_path):
    config = small_log.config(log, features, **SETTINGS)
    with pytest.raises(DataError, match="already holds a prepared set; name another --output"):
        local.prepare(config, log.parent / "straight")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not an empty folder; name another"):
        local.prepare(config, tmp_path / "full")
    with pytest.raises(DataError, match="exists and is not an empty folder; name another"):
        local.prepare(config, tmp_path / "full" / "mine.txt")
    assert os.listdir(tmp_path) == ["full"]
    (tmp_path / "empty").mkdir()
    local.prepare(config, tmp_path / "empty")
    found = small_log.contents(tmp_path / "empty", but=("prepared.json",))
    expected = {name: body for name, body in straight.items() if name != "prepared.json"}
    assert found == expected
    sizes = np.load(tmp_path / "empty" / "sizes-train.npy")
    assert sizes.sum() == load(str(tmp_path / "empty")).train.n_impressions
