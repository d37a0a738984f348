"""What is wrong with a log is said: where, and what to do; or it is counted by a policy."""

import gzip
import itertools
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicm_jax.config_file import load as load_config
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.preparation import local
from dicm_jax.preparation.config import PrepareConfig
from tests.preparation import made, oracle, small_log
from tests.preparation.small_log import DAY, HOUR, START

PART = "part-000.parquet"


@pytest.fixture(name="rows")
def _rows():
    return small_log.tables(41, 120, behaviors=60)


def _refused(message, rows, tmp_path, features, *, written=None, **settings):
    """The rows are refused with a message that matches, and there is no set."""
    log = small_log.write(rows, tmp_path / "log", **(written or {}))
    _log_refused(message, log, features, **settings)


def _log_refused(message, log, features, **settings):
    place = log.parent / "set"
    with pytest.raises(DataError, match=message):
        local.prepare(small_log.config(log, features, **settings), place)
    assert not place.exists()


def _changed_column(log, table, name, values):
    """Replaces a column of a Parquet table."""
    path = log / table / PART
    found = pq.read_table(path)
    pq.write_table(found.set_column(found.column_names.index(name), name, values), path)


# -- columns

MISSING = {
    "impressions": ("time", "timme", r"impressions/part-000.parquet: no column 'time'; near it: "),
    "behaviors": ("dwell", "stay", r"behaviors/part-000.parquet: no column 'dwell'; columns found"),
    "catalogue": ("brand", "brands", r"no column 'brand'; near it: brands; columns found: item, "),
    "users": ("user", "usr", r"users/part-000.parquet: no column 'user'; near it: usr; columns"),
}


@pytest.mark.parametrize("table", MISSING)
@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz"])
def test_a_missing_column(tmp_path, features, rows, table, kind):
    name, instead, message = MISSING[table]
    for row in getattr(rows, table):
        row[instead] = row.pop(name)
    message = message.replace("part-000.parquet", f"part-000.{kind}")
    message += r".*; name the right one in the config's column map"
    settings = {"behaviors__dwell": "dwell"}
    _refused(message, rows, tmp_path, features, written={"kind": kind}, **settings)


LISTS = pa.array([[1]] * 120)
TYPES = {
    "fractions as users": (
        "user",
        pa.array(np.arange(120) / 2),
        "column 'user' has type double; an ID column holds text or integers: convert it",
    ),
    "lists as users": ("user", LISTS, "column 'user' has type list<.*; an ID column holds text"),
    "bytes as items": ("item", pa.array([b"x"] * 120), "column 'item' has type binary; an ID"),
    "fractions as times": (
        "time",
        pa.array(np.full(120, 1.5)),
        "column 'time' has type double; a time is a timestamp, a date, an integer in time_unit='s'",
    ),
    "words as times": (
        "time",
        pa.array(["2020-01-01"] * 119 + ["yesterday"]),
        "column 'time': 'yesterday' is no time; a time is ISO text, or an integer in time_unit='s'",
    ),
    "times of two kinds": (
        "time",
        pa.array(["2020-01-01"] * 119 + ["1577836800"]),
        "column 'time': .* is no time; .*the same way in all rows",
    ),
    "dates as clicks": (
        "click",
        pa.array([0] * 120, pa.date32()),
        "column 'click' has type date32.*; a click is 0 or 1: convert it, or name the right column",
    ),
    "lists as clicks": ("click", LISTS, "column 'click' has type list"),
    "lists as pages": ("page", LISTS, "column 'page' has type list"),
}


@pytest.mark.parametrize("case", TYPES)
def test_a_column_of_a_wrong_type(tmp_path, features, rows, case):
    name, values, message = TYPES[case]
    log = small_log.write(rows, tmp_path / "log")
    _changed_column(log, "impressions", name, values)
    _log_refused(rf"impressions/{PART}: {message}", log, features)


def test_dwell_times_that_are_no_numbers(tmp_path, features, rows):
    for row in rows.behaviors:
        row["dwell"] = "long"
    message = "column 'dwell' holds no numbers .*'long'.*; mend it"
    _refused(message, rows, tmp_path, features, behaviors__dwell="dwell")


def test_columns_of_other_types_are_fine(tmp_path, features, rows):
    """Categories, large text, small and unsigned integers, booleans: the same IDs."""
    log = small_log.write(rows, tmp_path / "log")
    local.prepare(small_log.config(log, features), tmp_path / "set")
    table = pq.read_table(log / "impressions" / PART)
    _changed_column(log, "impressions", "user", table["user"].dictionary_encode())
    _changed_column(log, "impressions", "item", table["item"].cast(pa.large_string()))
    _changed_column(log, "impressions", "place", table["place"].cast(pa.uint8()))
    _changed_column(log, "impressions", "click", table["click"].cast(pa.bool_()))
    _changed_column(log, "impressions", "time", table["time"].cast(pa.uint64()))
    local.prepare(small_log.config(log, features), tmp_path / "other")
    assert _groups(tmp_path / "other") == _groups(tmp_path / "set")


def _groups(place):
    log = made.read(place)
    return [made.groups(split) for split in (log.train, log.validation, log.test)]


# -- rows


def _bad_rows(rows, **values):
    """Some impressions with other values."""
    for row in rows.impressions[7:110:9]:
        row.update(values)
    return len(rows.impressions[7:110:9])


FAR = START + 1_000 * DAY
ROWS = {
    "label": ({"click": 2}, "label", r"click is 2; a click is 0 or 1"),
    "negative label": ({"click": -1}, "label", r"click is -1; a click is 0 or 1"),
    "no label": ({"click": None}, "missing", r"no click in it"),
    "no user": ({"user": None}, "missing", r"no user in it"),
    "empty user": ({"user": ""}, "missing", r"no user in it"),
    "no item": ({"item": None}, "missing", r"no item in it"),
    "no time": ({"time": None}, "missing", r"no time in it"),
    "future": (
        {"time": FAR},
        "future",
        r"time is 2022-09-27, after now \(2021-02-04\); is time_unit='s' right\?",
    ),
    "times in ms": (
        {"time": START * 1_000},
        "future",
        r"time is 274877906944 s since 1970, after now \(2021-02-04\); is time_unit='s' right\?",
    ),
    "unknown item": (
        {"item": "item-99"},
        "unknown_item",
        r"item is 'item-99', which the items lack",
    ),
}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("case", ROWS)
def test_rows_that_cannot_be_used(tmp_path, features, rows, case, kind):
    values, policy, message = ROWS[case]
    count = _bad_rows(rows, **values)
    log = small_log.write(rows, tmp_path / "log", kind=kind)
    if kind == "csv":
        message = re.sub(r"click is (-?\d);", r"click is '\1';", message)
    where = rf"impressions/part-000.{kind}, row 7: {message} "
    remedy = rf"mend the rows, or set policy.{policy}='drop' to count them and go on"
    chunk = rf"\({count} such rows in this chunk of 120\); {remedy}"
    _log_refused(where + chunk, log, features)
    # Counted, they are left out, and nothing else is.
    config = small_log.config(log, features, **{f"policy__{policy}": "drop"})
    prepared = local.prepare(config, tmp_path / "counted")
    dropped = {name: n for name, n in prepared.notes.items() if "dropped" in name}
    assert dropped == {f"impressions_dropped_{policy}": count}
    log = made.read(tmp_path / "counted")
    splits = [log.train, log.validation, log.test]
    kept = sum(split.n_impressions for split in splits if split is not None)
    assert kept == 120 - count == prepared.notes["impressions_rows"] - count
    usual = [row for row in rows.impressions if not _is_bad(row, values)]
    rows.impressions = usual
    expected = oracle.splits(rows, oracle.Rules(validation=START + 25 * DAY, test=START + 32 * DAY))
    # Users of dropped rows alone keep their numbers, so groups are compared but for these.
    found = [[g.impressions for g in made.groups(s)] for s in splits]
    wanted = [[g.impressions for g in expected[s]] for s in ("train", "validation", "test")]
    assert [sorted(split) for split in found] == [sorted(split) for split in wanted]


def _is_bad(row, values):
    return all(row[name] == value for name, value in values.items())


def test_the_row_of_a_later_chunk_and_file_is_named(tmp_path, features, rows):
    rows.impressions[97]["click"] = 5
    log = small_log.write(rows, tmp_path / "log", files=2, row_group=8)
    message = r"part-001.parquet, row 37: click is 5; .*\(1 such rows in this chunk of \d+\)"
    _log_refused(message, log, features, runner__chunk_rows=10)


def test_policies_hold_for_behaviors_and_profiles(tmp_path, features, rows):
    for row, change in zip(
        rows.behaviors[::8],
        [{"user": None}, {"item": "?"}, {"time": FAR}, {"time": None}, {"item": None}],
        strict=False,
    ):
        row.update(change)
    rows.users[3]["user"] = None
    log = small_log.write(rows, tmp_path / "log")
    _log_refused(r"behaviors/.*, row \d+: ", log, features)
    everything = dict.fromkeys(
        ("policy__missing", "policy__future", "policy__unknown_item"), "drop"
    )
    prepared = local.prepare(small_log.config(log, features, **everything), tmp_path / "counted")
    assert {name: n for name, n in prepared.notes.items() if "dropped" in name} == {
        "behaviors_dropped_missing": 3,
        "behaviors_dropped_future": 1,
        "behaviors_dropped_unknown_item": 1,
        "users_dropped_missing": 1,
    }


def test_short_and_unknown_stays_are_counted(tmp_path, features, rows):
    short = sum(row["dwell"] is None or row["dwell"] < 4 for row in rows.behaviors)
    assert 10 < short < len(rows.behaviors) - 10
    config = small_log.config(
        small_log.write(rows, tmp_path / "log"),
        features,
        behaviors__dwell="dwell",
        history__min_dwell_s=4.0,
    )
    notes = local.prepare(config, tmp_path / "set").notes
    assert notes["behaviors_of_short_dwell"] == short


def test_rows_out_of_order_are_counted_not_refused(tmp_path, features, rows):
    expected = 0
    for user in small_log.USERS:
        mine = [(row["time"], at) for at, row in enumerate(rows.impressions) if row["user"] == user]
        mine.sort()
        expected += sum(b < a for (_, a), (_, b) in itertools.pairwise(mine))
    log = small_log.write(rows, tmp_path / "log", files=3)
    notes = local.prepare(small_log.config(log, features), tmp_path / "set").notes
    assert notes["impressions_out_of_order"] == expected > 20


def test_times_before_1970_and_beyond_all_calendars(tmp_path, features, rows):
    """They are old, and the arithmetic holds; only what is later than now is refused."""
    rows.behaviors[0]["time"] = -5 * DAY - 1
    rows.behaviors[1]["time"] = -(2**62)
    rows.behaviors[2]["time"] = -(2**62)
    log = small_log.write(rows, tmp_path / "log")
    local.prepare(small_log.config(log, features, period_s=HOUR), tmp_path / "set")
    rules = oracle.Rules(period_s=HOUR, validation=START + 25 * DAY, test=START + 32 * DAY)
    for row in rows.behaviors[1:3]:
        row["time"] = -(2**38)
    expected = oracle.splits(rows, rules)
    assert _groups(tmp_path / "set") == [expected[s] for s in ("train", "validation", "test")]
    rows.behaviors[0]["time"] = 2**62
    for unit in ("day", "s", "ms", "us"):
        place = tmp_path / unit
        place.mkdir()
        log = small_log.write(rows, place / "log", time=lambda t: t // DAY if t < 2**60 else t)
        _log_refused("behaviors/.*row 0: time is 27\\d+ s since", log, features, time_unit="day")


# -- the catalogue and the profiles


def test_an_item_that_is_listed_twice(tmp_path, features, rows):
    rows.catalogue += [dict(rows.catalogue[3]), dict(rows.catalogue[3]), dict(rows.catalogue[5])]
    first = rows.catalogue[3]["item"]
    message = rf"catalogue.path=.*: 2 items are listed twice, first '{first}': keep one row for"
    _refused(message, rows, tmp_path, features)


def test_an_item_without_an_id(tmp_path, features, rows):
    rows.catalogue[4]["item"] = None
    message = r"catalogue.path=.*: 1 rows without an item ID, first row 4; fill them in"
    _refused(message, rows, tmp_path, features)


@pytest.mark.parametrize("hashed", [(), ("user",)])
@pytest.mark.parametrize("partition_rows", [10, 10**6])
def test_a_user_with_two_profiles(tmp_path, features, rows, hashed, partition_rows):
    rows.users.append(dict(rows.users[2]))
    who = r"'\w+'" if not hashed else r"number \d+"
    message = rf"users.path=.*: 1 rows are of users who have one already, first the user {who};"
    settings = {"ids__hashed": hashed, "runner__partition_rows": partition_rows}
    _refused(message, rows, tmp_path, features, **settings)


def test_users_who_share_a_hashed_number_share_a_profile(tmp_path, features, rows, monkeypatch):
    """They are one user then; that is not a mistake of the table."""
    monkeypatch.setattr("dicm_jax.preparation.plan.MOST_USERS", 5)
    log = small_log.write(rows, tmp_path / "log")
    notes = []
    for partition_rows in (7, 1000):
        config = small_log.config(
            log, features, ids__hashed=("user",), runner__partition_rows=partition_rows
        )
        place = tmp_path / f"set{partition_rows}"
        notes.append(local.prepare(config, place).notes)
    assert _groups(tmp_path / "set7") == _groups(tmp_path / "set1000")
    assert notes[0]["user_keys"] == 5
    assert notes[0]["user_expected_collision_share"] > 0.9


# -- files


def test_no_file(tmp_path, features, rows):
    log = small_log.write(rows, tmp_path / "log")
    nothing = str(tmp_path / "nothing-*.parquet")
    message = r"impressions.path=.*nothing-\*.parquet: no such file or folder, and as a glob"
    _log_refused(message, log, features, impressions__path=nothing)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.json").write_text("{}")
    message = r"behaviors.path=.*: no .parquet or .pq or .csv or .csv.gz file in this folder; found"
    _log_refused(message, log, features, behaviors__path=str(tmp_path / "empty"))
    message = r"log.json: users are read from .parquet, .pq, .csv, .csv.gz; convert this file"
    _log_refused(message, log, features, users__path=str(tmp_path / "empty" / "log.json"))
    message = r"catalogue.path=.*: no such file or folder, .*; name the catalogue of the log"
    _log_refused(message, log, features, catalogue__path=str(tmp_path / "nowhere"))


DAMAGE = {
    "cut short": lambda octets: octets[: len(octets) // 2],
    "empty": lambda octets: b"",
    "another format": lambda octets: b"user,item\n" * 30,
    "damaged": lambda octets: octets[:200] + bytes(100) + octets[300:],
}


@pytest.mark.parametrize("table", ["impressions", "behaviors", "catalogue", "users"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_parquet(tmp_path, features, rows, table, damage):
    log = small_log.write(rows, tmp_path / "log")
    path = log / table / PART
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    message = rf"{table}/{PART}: .*cannot be read \(.*\); it may be cut short or damaged: repair it"
    _log_refused(message, log, features)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u1,item-1,1577836800\n", r"Expected 6 columns, got 3"),
        ("u1,item-1,1577836800,1,home,1,2,3\n", r"Expected 6 columns, got 8"),
    ],
)
def test_a_broken_row_of_csv(tmp_path, features, rows, line, message):
    log = small_log.write(rows, tmp_path / "log", kind="csv")
    path = log / "impressions" / "part-000.csv"
    path.write_text(path.read_text() + line)
    _log_refused(rf"part-000.csv: cannot be read \(.*{message}.*\); it may be", log, features)


def test_csv_that_is_no_utf8(tmp_path, features, rows):
    log = small_log.write(rows, tmp_path / "log", kind="csv")
    path = log / "impressions" / "part-000.csv"
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xfc"))
    _log_refused(r"part-000.csv: its columns cannot be read \(.utf-8. codec", log, features)
    octets = path.read_bytes().replace(b"\xfc", "ü".encode())
    path.write_bytes(octets + octets.split(b"\n", 1)[1] * 3 + b"\xfc,item-1,1577836800,1,,1\n")
    _log_refused(r"part-000.csv: cannot be read \(.*UTF8.*\); it may be cut", log, features)


def test_gzip_that_is_cut_short(tmp_path, features, rows):
    log = small_log.write(rows, tmp_path / "log", kind="csv.gz")
    path = log / "behaviors" / "part-000.csv.gz"
    path.write_bytes(path.read_bytes()[:-40])
    _log_refused(r"part-000.csv.gz: cannot be read \(.*\); it may be cut short", log, features)
    path.write_bytes(gzip.compress(b"")[:5])
    _log_refused(r"part-000.csv.gz: .*cannot be read \(.*\); it may be cut short", log, features)


def test_a_value_with_a_line_break_in_csv_is_one_value(tmp_path, features, rows):
    rows.impressions[5]["page"] = 'a "page"\nof two lines, with a comma'
    for kind in ("parquet", "csv"):
        log = small_log.write(rows, tmp_path / kind, kind=kind)
        local.prepare(small_log.config(log, features), tmp_path / f"set-{kind}")
    assert _groups(tmp_path / "set-csv") == _groups(tmp_path / "set-parquet")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_empty_tables(tmp_path, features, rows, kind):
    log = small_log.write(rows, tmp_path / "log", kind=kind)
    for table, message in (
        ("catalogue", r"catalogue.path=.*: no item in it; give the whole catalogue"),
        ("impressions", r"impressions.path=.*: no impression in it"),
    ):
        place = tmp_path / table
        (place / table).mkdir(parents=True)
        path = place / table / f"part-000.{kind}"
        small_log.write_rows(path, [], getattr(rows, table), 10)
        config = small_log.config(log, features, **{f"{table}__path": str(place / table)})
        with pytest.raises(DataError, match=message):
            local.prepare(config, place / "set")
    for table in ("behaviors", "users"):
        path = log / table / f"part-000.{kind}"
        path.unlink()
        small_log.write_rows(path, [], getattr(rows, table), 10)
    for hashed in ((), ("age",)):
        config = small_log.config(log, features, ids__hashed=hashed)
        place = tmp_path / f"set{len(hashed)}"
        notes = local.prepare(config, place).notes
        assert notes["behaviors_rows"] == notes["users_rows"] == 0
    rows.behaviors, rows.users = [], []
    expected = oracle.splits(rows, oracle.Rules(validation=START + 25 * DAY, test=START + 32 * DAY))
    assert _groups(tmp_path / "set0") == [expected[s] for s in ("train", "validation", "test")]


# -- settings

CUTS = {
    "after the last": (
        {"split__test_from": "2030-01-01"},
        r"split.test_from=2030-01-01 leaves a split empty: impressions run from 2020-01-01.* to"
        r" 2020-02-\d\d.*; cut between these",
    ),
    "before the first": (
        {"split__test_from": "2019-01-01", "split__validation_from": None},
        r"split.test_from=2019-01-01 leaves a split empty",
    ),
    "validation before the first": (
        {"split__validation_from": "2019-12-01"},
        r"split.validation_from=2019-12-01 leaves a split empty: impressions run from",
    ),
    "validation last": (
        {"split__validation_from": "2020-02-05"},
        r"split.validation_from=2020-02-05 is not before split.test_from=2020-02-02.*: validation",
    ),
    "in a period": (
        {"split__test_from": "2020-02-02T01:00:00", "period_s": DAY},
        r"split.test_from=2020-02-02T01:00:00 lies within a period of 86400 s, .*; cut at a mult",
    ),
    "no date": (
        {"split__test_from": "soon"},
        r"split.test_from='soon' is no date or time; write it as YYYY-MM-DD or YYYY-MM-DDTHH",
    ),
    "now is no date": ({"policy__now": "today"}, r"policy.now='today' is no date or time; write"),
    "too many values": (
        {"ids__most": 3},
        r"field '\w+' has \d+ values, more than ids.most=3: hash it \(ids.hashed\), or raise",
    ),
}


@pytest.mark.parametrize("case", CUTS)
def test_settings_that_do_not_fit_the_log(tmp_path, features, rows, case):
    settings, message = CUTS[case]
    _refused(message, rows, tmp_path, features, **settings)


@pytest.mark.parametrize(
    ("split", "first", "last"), [("test", 32, 99), ("validation", 25, 32), ("train", 0, 25)]
)
def test_a_split_that_is_empty_once_rows_are_dropped(tmp_path, features, rows, split, first, last):
    for row in rows.impressions:
        if START + first * DAY <= row["time"] < START + last * DAY:
            row["click"] = 7
    message = rf"no group is left for the {split} split; counted: .*'impressions_dropped_label': \d"
    _refused(message, rows, tmp_path, features, policy__label="drop")


CONFIGS = {
    "hashed": ({"ids__hashed": ("pgae",)}, "ids.hashed names 'pgae', which is no ID field; there"),
    "statistics": ({"statistics": ("age",)}, "statistics names 'age', which is none; there are"),
    "twice": (
        {"impressions__fields": ("category",)},
        "ID field 'category' stands 2 times among the fields of users, impressions, items and",
    ),
    "twice in a table": ({"catalogue__fields": ("a=x", "a=y")}, "ID field 'a' stands 2 times"),
    "a statistic": ({"impressions__fields": ("item_age",)}, "ID field 'item_age' stands 2 times"),
    "item": ({"impressions__fields": ("item",)}, "ID field 'item' stands 2 times"),
    "user": ({"users__fields": ("user",)}, "ID field 'user' cannot be called so: user, who, .*;"),
    "second": ({"impressions__fields": ("second=x",)}, "write NAME=COLUMN with another name"),
    "a path": ({"catalogue__fields": ("../x",)}, "ID field '../x' cannot be called so"),
    "no name": ({"catalogue__fields": ("=x",)}, "ID field '' cannot be called so"),
    "dwell": (
        {"history__min_dwell_s": 3.0},
        "history.min_dwell_s=3.0 with behaviors.dwell=None: name the column of seconds stayed",
    ),
    "impressions": ({"impressions__path": None}, "impressions.path=None with source='tables': "),
    "catalogue": ({"catalogue__path": None}, "catalogue.path=None .*set --config.catalogue.path"),
    "test": ({"split__test_from": None}, "split.test_from=None with source='tables'"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_settings_that_exclude_each_other(tmp_path, features, case):
    settings, message = CONFIGS[case]
    (tmp_path / "impressions").mkdir()
    (tmp_path / "catalogue").mkdir()
    with pytest.raises(ConfigError, match=message):
        small_log.config(tmp_path, features, **settings)


def test_keys_that_are_none_of_the_config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("def get_config():\n    return {'impresions': {'path': 'x'}}\n")
    with pytest.raises(
        ConfigError, match=r"there is no key impresions; did you mean impressions or "
    ):
        load_config(PrepareConfig, str(path))
    path.write_text("def get_config():\n    return {}\n")
    with pytest.raises(ConfigError, match=r"no key history.mots; did you mean history.most"):
        load_config(PrepareConfig, str(path), ["history.mots=3"])
    with pytest.raises(ConfigError, match=r"history.most .*many"):
        load_config(PrepareConfig, str(path), ["history.most=many"])


def test_a_feature_table_that_is_not_there(tmp_path, features, rows):
    log = small_log.write(rows, tmp_path / "log")
    message = r"nowhere: not a feature table with IDs: no such folder; give the folder"
    _log_refused(message, log, tmp_path / "nowhere")


def test_images_that_the_table_lacks_are_counted(tmp_path, features, rows):
    for row in rows.catalogue:
        row["picture"] = None
    log = small_log.write(rows, tmp_path / "log", kind="csv")
    notes = local.prepare(small_log.config(log, features), tmp_path / "set").notes
    assert notes["items_without_image"] == small_log.ITEMS
