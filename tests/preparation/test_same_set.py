"""Equal logs, equal sets: whatever the files, the formats and the way the work is cut."""

import datetime
import json

import pytest

from dicm_jax.data.prepared import manifest
from dicm_jax.preparation import local
from tests.preparation import small_log
from tests.preparation.small_log import DAY

HASHED = ("user", "city", "brand", "page")


@pytest.fixture(name="rows", scope="module")
def _rows():
    return small_log.tables(21)


def _prepare(place, log, features, **settings):
    local.prepare(small_log.config(log, features, **settings), place)
    return small_log.contents(place)


@pytest.fixture(name="plain", scope="module")
def _plain(rows, features, tmp_path_factory):
    """The log in one Parquet file a table, and its set."""
    folder = tmp_path_factory.mktemp("plain")
    log = small_log.write(rows, folder / "log", row_group=30)
    return log, _prepare(folder / "set", log, features)


CUTS = {
    "rows at a time": {"runner__chunk_rows": 7},
    "one row at a time": {"runner__chunk_rows": 1, "runner__workers": 3},
    "partitions": {"runner__partition_rows": 19},
    "one thread": {"runner__workers": 1, "runner__partition_rows": 50},
    "all": {"runner__chunk_rows": 11, "runner__partition_rows": 5, "runner__workers": 4},
}


@pytest.mark.parametrize("settings", CUTS.values(), ids=list(CUTS))
def test_how_the_work_is_cut_does_not_show(tmp_path, plain, features, settings):
    log, expected = plain
    found = _prepare(tmp_path / "set", log, features, **settings)
    # Where the feature table lies is told from the set, whose folders are unlike.
    assert _but_features(found) == _but_features(expected)


def _but_features(contents):
    body = json.loads(contents["prepared.json"])
    body["features"]["image"].pop("path")
    body.pop("crc32")
    return contents | {"prepared.json": body}


WRITTEN = {
    "small row groups": {"row_group": 7},
    "many files": {"files": 5},
    "csv": {"kind": "csv"},
    "csv in files": {"kind": "csv", "files": 3},
    "csv.gz": {"kind": "csv.gz", "files": 2},
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=list(WRITTEN))
@pytest.mark.parametrize("hashed", [(), HASHED], ids=["vocabularies", "hashed"])
def test_files_and_formats_do_not_show(tmp_path, rows, features, written, hashed):
    one = small_log.write(rows, tmp_path / "log")
    other = small_log.write(rows, tmp_path / "other", **written)
    settings = {"ids__hashed": hashed, "ids__buckets": 1009}
    expected = _prepare(tmp_path / "set", one, features, **settings)
    found = _prepare(tmp_path / "found", other, features, runner__chunk_rows=50, **settings)
    assert _but_source(found) == _but_source(expected)


def _but_source(contents):
    """All but the record of which files it was."""
    body = json.loads(contents["prepared.json"])
    for name in ("settings", "source", "features", "crc32"):
        body.pop(name)
    return contents | {"prepared.json": body}


def _moment(second):
    return datetime.datetime.fromtimestamp(second, datetime.UTC)


TIMES = {
    "days": ({"time_unit": "day"}, lambda second: second // DAY),
    "ms": ({"time_unit": "ms"}, lambda second: second * 1_000 + 999),
    "us": ({"time_unit": "us"}, lambda second: second * 1_000_000),
    "ns": ({"time_unit": "ns"}, lambda second: second * 1_000_000_000 + 1),
    "ISO text": ({}, small_log.iso),
    "ISO text with a zone": (
        {},
        lambda second: small_log.iso(second + 7200).replace("Z", "+02:00"),
    ),
    "ISO text without a zone": ({}, lambda second: small_log.iso(second)[:-1]),
    "ISO text with a fraction": (
        {},
        lambda second: small_log.iso(second).replace("Z", ".123456789"),
    ),
    "dates as text": ({}, lambda second: small_log.iso(second)[:10]),
    "dates": ({}, lambda second: _moment(second).date()),
    "timestamps": ({}, _moment),
    "timestamps without a zone": ({}, lambda second: _moment(second).replace(tzinfo=None)),
}


AS_CSV = ("days", "ms", "ISO text", "dates as text")
WAYS = [*((how, "parquet") for how in TIMES), *((how, "csv") for how in AS_CSV)]


@pytest.mark.parametrize(("how", "kind"), WAYS)
def test_units_of_time_do_not_show(tmp_path, features, how, kind):
    settings, convert = TIMES[how]
    rows = small_log.tables(22, 60, behaviors=40, step=DAY)
    one = small_log.write(rows, tmp_path / "log")
    other = small_log.write(rows, tmp_path / "other", time=convert, kind=kind)
    expected = _prepare(tmp_path / "set", one, features, period_s=DAY)
    found = _prepare(tmp_path / "found", other, features, period_s=DAY, **settings)
    assert _but_source(found) == _but_source(expected)


def test_rows_in_another_order_give_the_same_groups(tmp_path, features):
    """Within a group impressions keep their order, so rows are reversed by whole periods."""
    rows = small_log.tables(23)
    one = small_log.write(rows, tmp_path / "log")
    rows.impressions.sort(key=lambda row: row["time"])
    rows.behaviors, rows.users = (rows.behaviors or [])[::-1], (rows.users or [])[::-1]
    other = small_log.write(rows, tmp_path / "other")
    config = {place: small_log.config(place, features) for place in (one, other)}
    first = local.prepare(config[one], tmp_path / "set")
    second = local.prepare(config[other], tmp_path / "found")
    assert first.notes.pop("impressions_out_of_order") > 50
    assert second.notes.pop("impressions_out_of_order") == 0
    assert first.notes == second.notes
    kept = ("prepared.json",)
    found, expected = (small_log.contents(tmp_path / name, but=kept) for name in ("found", "set"))
    assert found == expected


def test_shards_are_cut_between_steps_of_time(tmp_path, features):
    """Also where no impression falls into the hour at which a step begins."""
    rows = small_log.tables(24, step=DAY)
    for row in rows.impressions:
        row["time"] += 10 * 3600
    config = small_log.config(
        small_log.write(rows, tmp_path / "log"), features, period_s=DAY, output__shard_groups=40
    )
    local.prepare(config, tmp_path / "set")
    shards = manifest.load(tmp_path / "set").splits["train"]
    assert len(shards) >= 4
    assert max(shard.impressions for shard in shards) < 60
