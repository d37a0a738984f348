"""Prepared groups against a plain walk over the rows of random logs."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.preparation import local
from tests.preparation import made, oracle, small_log
from tests.preparation.oracle import Rules
from tests.preparation.small_log import DAY, HOUR, START

CUTS: dict[str, Any] = {"validation": START + 25 * DAY, "test": START + 32 * DAY}
WITH_DWELL = {"behaviors__dwell": "dwell"}
CASES = {
    "defaults": ({}, {}, {}),
    "days": ({"period_s": DAY}, {}, {}),
    "odd periods": ({"period_s": 5 * HOUR}, {"split__validation_from": small_log.iso(0)}, {}),
    "window": ({"window_s": 5 * DAY, "most": 50}, {}, {}),
    "window of an hour": ({"window_s": HOUR, "most": 50}, {}, {}),
    "window under a period": ({"window_s": HOUR, "period_s": DAY}, {}, {}),
    "window between periods": ({"window_s": 30 * HOUR, "period_s": DAY}, {}, {}),
    "no behaviors kept": ({"most": 0}, {}, {}),
    "dwell": ({"dwell": True, "min_dwell_s": 4.0}, WITH_DWELL, {}),
    "clicks are behaviors": ({}, {}, {"behaviors": None}),
    "clicks of days": ({"period_s": DAY, "most": 3}, {}, {"behaviors": None}),
    "hashed": ({"hashed": ("user", "item", "page", "city", "brand"), "buckets": 977}, {}, {}),
    "ages in hours": ({"unit_s": HOUR}, {}, {}),
    "few statistics": ({"statistics": ("item_age", "since_behavior")}, {}, {}),
    "few behaviors": ({}, {}, {"behaviors": 3}),
}
SETTING = {
    "window_s": "history__window_s",
    "most": "history__most",
    "min_dwell_s": "history__min_dwell_s",
    "unit_s": "statistics_unit_s",
    "hashed": "ids__hashed",
    "buckets": "ids__buckets",
}


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=list(CASES))
def test_groups_are_those_of_a_walk_over_the_rows(tmp_path, features, number, case):
    of_rules, settings, of_tables = CASES[case]
    rules = Rules(**CUTS | of_rules)
    settings = {SETTING.get(name, name): value for name, value in of_rules.items()} | settings
    settings.pop("dwell", None)
    if case == "odd periods":  # cuts lie on borders of periods
        rules = Rules(period_s=5 * HOUR, validation=5 * HOUR * 87_780, test=5 * HOUR * 87_810)
        settings["split__validation_from"] = small_log.iso(rules.validation)
        settings["split__test_from"] = small_log.iso(rules.test)
    rows = small_log.tables(number, step=1_200 if number % 2 else HOUR, **of_tables)
    small_log.write(rows, tmp_path / "log", files=2, row_group=40)
    config = small_log.config(
        tmp_path / "log",
        features,
        runner__chunk_rows=30,
        runner__partition_rows=50,
        **settings,
    )
    local.prepare(config, tmp_path / "set")
    log = made.read(tmp_path / "set")
    expected = oracle.splits(rows, rules)
    assert made.groups(log.train) == expected["train"]
    assert made.groups(log.validation) == expected["validation"]
    assert made.groups(log.test) == expected["test"]
    assert log.items.ids_NF.tolist() == [list(ids) for ids in oracle.Keys(rows, rules).items]


def test_what_the_random_logs_hold():
    """The cases above mean something: histories of all lengths, cold items, both classes ..."""
    found = oracle.splits(small_log.tables(0), Rules(**CUTS))
    assert all(len(found[split]) > 20 for split in ("train", "validation", "test"))
    lengths = {len(group.behaviors) for groups in found.values() for group in groups}
    assert lengths == set(range(7))
    assert max(len(group.impressions) for groups in found.values() for group in groups) > 1
    few = oracle.splits(small_log.tables(14, behaviors=3), Rules(**CUTS))
    colds = [cold for group in few["test"] for *_, cold in group.impressions]
    assert True in colds
    assert False in colds


@pytest.fixture(name="prepared_set", scope="module")
def _prepared_set(tmp_path_factory, features):
    folder = tmp_path_factory.mktemp("prepared")
    rows = small_log.tables(3)
    config = small_log.config(small_log.write(rows, folder / "log"), features)
    return rows, local.prepare(config, folder / "set"), folder / "set"


def test_items_have_their_images(prepared_set):
    rows, _, folder = prepared_set
    log = made.read(folder)
    wanted = [
        NO_IMAGE if row["picture"] is None else 22 - int(row["picture"].removesuffix(".jpg"))
        for row in rows.catalogue
    ]
    assert log.items.image_N.tolist() == wanted
    assert log.features.count == 23
    listed = pq.read_table(folder / "items.parquet").to_pylist()
    assert listed == [{"item": row["item"], "image": row["picture"]} for row in rows.catalogue]


def test_vocabularies_list_the_values_of_the_keys(prepared_set):
    rows, _, folder = prepared_set
    keys = oracle.Keys(rows, Rules())
    listed = {
        path.stem: pq.read_table(path)["value"].to_pylist()
        for path in (folder / "vocabularies").iterdir()
    }
    assert listed.keys() == {"user", "item", "category", "brand", "age", "city", "page", "position"}
    assert listed["user"] == keys.users
    assert listed["item"] == [row["item"] for row in rows.catalogue]
    for name in ("age", "city", "page", "position"):
        assert listed[name] == keys.values[name]
    log = made.read(folder)
    sizes = {name: len(values) for name, values in listed.items() if name != "user"}
    statistics = dict.fromkeys(Rules().statistics, len(oracle.EDGES) + 1)
    assert log.vocabulary_sizes == sizes | statistics


def test_fields_stand_in_the_order_of_the_settings(prepared_set):
    log = made.read(prepared_set[2])
    names = {level: [field.name for field in log.fields_of(level)] for level in ("user", "context")}
    assert names["user"] == ["age", "city", "history_length", "since_behavior"]
    assert names["context"] == ["page", "position", "item_behaviors", "item_age"]
    assert [field.name for field in log.fields_of("item")] == ["item", "category", "brand"]


def test_notes_count_what_there_is(prepared_set):
    rows, prepared, folder = prepared_set
    log = made.read(folder)
    notes = prepared.notes
    assert notes["impressions_rows"] == len(rows.impressions)
    assert notes["behaviors_rows"] == len(rows.behaviors)
    assert notes["users_rows"] == len(rows.users)
    assert notes["profiles_of_users_without_a_row"] == 1
    assert notes["items_without_image"] == np.sum(log.items.image_N == NO_IMAGE) > 0
    for name in ("train", "validation", "test"):
        split = getattr(log, name)
        assert notes[f"{name}_groups"] == split.n_groups
        assert notes[f"{name}_impressions"] == split.n_impressions
        assert notes[f"{name}_behaviors"] == len(split.behavior_item_H)
        assert notes[f"{name}_clicks"] == split.click_B.sum()
        assert notes[f"{name}_cold"] == split.cold_B.sum()
    dropped = [name for name in notes if "dropped" in name]
    assert not dropped
