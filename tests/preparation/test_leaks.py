"""What happens later changes nothing that is known earlier, byte for byte."""

import copy
import dataclasses

import numpy as np
import pytest

from dicm_jax.preparation import local
from tests.preparation import made, small_log
from tests.preparation.small_log import DAY, HOUR, START

PLANTED = START + 20 * DAY + 5 * HOUR


def _prepared(rows, place, features, **settings):
    config = small_log.config(small_log.write(rows, place / "log"), features, **settings)
    local.prepare(config, place / "set")
    return made.read(place / "set")


def _with_clicks(rows, time):
    """Every known user clicks every known item, again and again from `time` on."""
    more = copy.deepcopy(rows)
    users = sorted({row["user"] for row in rows.impressions})
    for user in users:
        for row in rows.catalogue:
            for later in (0, 1, HOUR, 3 * DAY):
                more.behaviors.append(
                    {"user": user, "item": row["item"], "time": time + later, "dwell": 5.0}
                )
    return more


def _until(split, time):
    """The bytes of every array of the groups up to, and with, `time`."""
    groups = int(np.searchsorted(split.time_G, time, side="right"))
    impressions, behaviors = (
        int(split.impression_offsets[groups]),
        int(split.behavior_offsets[groups]),
    )
    ends = {"G": groups, "B": impressions, "H": behaviors}
    known = {}
    for field in dataclasses.fields(split):
        array = getattr(split, field.name)
        if field.name.endswith("offsets"):
            known[field.name] = array[: groups + 1].tobytes()
        elif array is not None and field.name != "cold_B":
            end = ends[field.name.rpartition("_")[2][0]]
            known[field.name] = (array.dtype, array[:end].tobytes())
    return groups, known


@pytest.mark.parametrize("period_s", [1, HOUR, DAY])
@pytest.mark.parametrize("window_s", [0, 2 * DAY])
def test_clicks_planted_in_a_period_and_after_it_are_unknown_until_it_is_over(
    tmp_path, features, period_s, window_s
):
    rows = small_log.tables(11)
    settings = {"period_s": period_s, "history__window_s": window_s, "history__most": 500}
    before = _prepared(rows, tmp_path / "a", features, **settings)
    # The first planted click falls into the period of impressions that are there.
    planted = PLANTED // period_s * period_s
    rows.impressions[0]["time"] = planted
    before = _prepared(rows, tmp_path / "b", features, **settings)
    after = _prepared(_with_clicks(rows, planted), tmp_path / "c", features, **settings)
    groups, known = _until(before.train, planted)
    assert (groups, known) == _until(after.train, planted)
    assert 100 < groups < before.train.n_groups
    assert before.train.time_G[groups - 1] == planted
    # All of it shows in the next group of everyone: the test can tell.
    later = len(after.train.behavior_item_H) - len(before.train.behavior_item_H)
    assert later > 5 * small_log.ITEMS
    assert (after.train.context_ids_BF[-5:, 2] > before.train.context_ids_BF[-5:, 2]).all()


def test_clicks_of_the_test_period_make_no_item_warm(tmp_path, features):
    rows = small_log.tables(14, behaviors=3)
    before = _prepared(rows, tmp_path / "a", features)
    cut = START + 32 * DAY
    after = _prepared(_with_clicks(rows, cut), tmp_path / "b", features)
    assert before.test.cold_B.any()
    np.testing.assert_array_equal(before.test.cold_B, after.test.cold_B)
    warm = _prepared(_with_clicks(rows, cut - 4 * DAY), tmp_path / "c", features)
    assert not warm.test.cold_B.any()


def test_an_impression_does_not_know_its_own_click(tmp_path, features):
    """Where clicks are the behaviors, labels of a period change nothing in that period."""
    rows = small_log.tables(12, behaviors=None)
    flipped = copy.deepcopy(rows)
    last = max(row["time"] for row in rows.impressions)
    for row in flipped.impressions:
        if row["time"] == last:
            row["click"] = 1 - row["click"]
    before = _prepared(rows, tmp_path / "a", features).test
    after = _prepared(flipped, tmp_path / "b", features).test
    assert (before.click_B != after.click_B).any()
    for field in dataclasses.fields(before):
        if field.name not in ("click_B", "probability_B"):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
