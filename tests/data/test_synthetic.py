"""The synthetic world: what its log promises to readers, and what can be learned from it."""

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor

from dicm_jax.data.schema import NO_IMAGE, in_memory
from dicm_jax.data.synthetic.reader import WorldConfig, generate, to_log
from dicm_jax.data.synthetic.world import simulate
from dicm_jax.data.validate import validate
from dicm_jax.errors import ConfigError
from dicm_jax.metrics.ranking import gauc

SMALL = WorldConfig(
    items=400, users=150, content_width=64, history_days=8, train_days=6, max_behaviors=10
)


@functools.cache
def world_and_log(config=SMALL):
    world = simulate(config)
    return world, to_log(config, world)


@functools.cache
def default_world(seed=0):
    """The default world, but for the width of its content rows, which moves nothing else."""
    return world_and_log(WorldConfig(seed=seed, content_width=16))


def digest(log):
    """Of every array of a log."""
    features = in_memory(log.features)
    arrays = [log.items.ids_NF, log.items.image_N, features.rows_VD, features.scale_V]
    for split in (log.train, log.test):
        arrays += [getattr(split, field.name) for field in dataclasses.fields(split)]
    return hashlib.sha256(
        b"".join(array.tobytes() for array in arrays if array is not None)
    ).hexdigest()


def column(log, level, name):
    return [field.name for field in log.fields_of(level)].index(name)


def of_impressions(split, value_G):
    """A value of each group, repeated for its impressions."""
    return np.repeat(value_G, np.diff(split.impression_offsets), axis=0)


def group_days(config, world, split_name):
    """The day of each group of a split, from the world's own record."""
    shown = world.impressions
    first_test_day = config.history_days + config.train_days
    low, high = (
        (config.history_days, first_test_day)
        if split_name == "train"
        else (first_test_day, config.days)
    )
    day_B = shown.day_B[(shown.day_B >= low) & (shown.day_B < high)]
    return day_B, day_B[world_and_log(config)[1].split(split_name).impression_offsets[:-1]]


# The log


@pytest.mark.parametrize("config", [SMALL, WorldConfig(content_width=16)], ids=["small", "default"])
def test_the_log_keeps_the_schema(config):
    validate(world_and_log(config)[1])


def test_a_seed_gives_the_same_log_whatever_the_threads():
    code = (
        "from tests.data.test_synthetic import SMALL, digest; "
        "from dicm_jax.data.synthetic.reader import generate; print(digest(generate(SMALL)))"
    )
    digests = set()
    for threads in ("1", "3"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
        )
        digests.add(done.stdout.strip())
    assert digests == {digest(generate(SMALL))}


def test_another_seed_gives_another_log():
    assert digest(generate(dataclasses.replace(SMALL, seed=1))) != digest(generate(SMALL))


@pytest.mark.parametrize("split_name", ["train", "test"])
def test_behaviors_are_the_newest_clicks_of_earlier_days(split_name):
    world, log = world_and_log()
    shown, split = world.impressions, log.split(split_name)
    _, day_G = group_days(SMALL, world, split_name)
    clicks = [(user, []) for user in range(SMALL.users)]
    for row in np.flatnonzero(shown.click_B):
        clicks[shown.user_B[row]][1].append((shown.day_B[row], shown.item_B[row]))
    lengths = set()
    for group in range(split.n_groups):
        start, end = split.behavior_offsets[group : group + 2]
        earlier = [item for day, item in clicks[split.user_G[group]][1] if day < day_G[group]]
        assert split.behavior_item_H[start:end].tolist() == earlier[-SMALL.max_behaviors :]
        activity = split.user_ids_GF[group, column(log, "user", "activity")]
        assert activity == np.floor(np.log2(len(earlier) + 1))
        lengths.add(end - start)
    assert {0, SMALL.max_behaviors} <= lengths  # both ends were met


def test_item_clicks_count_earlier_days_only():
    world, log = world_and_log()
    shown, split = world.impressions, log.test
    day_B, _ = group_days(SMALL, world, "test")
    clicked_item_C, clicked_day_C = (a[shown.click_B] for a in (shown.item_B, shown.day_B))
    for impression in range(0, split.n_impressions, 7):
        item, day = split.item_B[impression], day_B[impression]
        count = np.sum((clicked_item_C == item) & (clicked_day_C < day))
        bucket = split.context_ids_BF[impression, column(log, "context", "item_clicks")]
        assert bucket == np.floor(np.log2(count + 1))


def test_cold_items_stand_nowhere_in_train():
    _, log = world_and_log()
    known = set(log.train.item_B.tolist()) | set(log.train.behavior_item_H.tolist())
    cold_B = [item not in known for item in log.test.item_B.tolist()]
    assert log.test.cold_B.tolist() == cold_B
    assert not log.train.cold_B.any()


def test_a_visit_shows_no_item_twice():
    _, log = world_and_log()
    split = log.train
    group_B = of_impressions(split, np.arange(split.n_groups))
    assert len(set(zip(group_B.tolist(), split.item_B.tolist(), strict=True))) == len(group_B)


def test_items_without_photo_have_no_row():
    _, log = world_and_log(dataclasses.replace(SMALL, no_image_share=0.5))
    image_N = log.items.image_N
    photos_N = image_N != NO_IMAGE
    assert 0.3 < photos_N.mean() < 0.7
    assert image_N[photos_N].tolist() == list(range(log.features.count))
    assert log.notes["items_without_image"] == (~photos_N).sum()


# The default world


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_world_is_of_the_size_and_difficulty_it_is_meant_to_be(seed):
    _, log = default_world(seed)
    test = log.test
    assert 100_000 < log.train.n_impressions < 160_000
    assert 25_000 < test.n_impressions < 50_000
    assert 0.005 < log.notes["items_without_image"] / len(log.items.image_N) < 0.02
    assert 0.1 < log.notes["train_click_rate"] < 0.25
    assert 20 < log.notes["behaviors_per_group"] < 35
    assert 0.005 < log.notes["groups_without_behaviors"] < 0.1
    assert 0.3 < log.notes["cold_share_of_test_clicks"] < 0.6
    assert test.probability_B is not None
    assert 0.75 < gauc(test.user_B, test.click_B, test.probability_B) < 0.85


def test_clicks_happen_as_often_as_their_probability_says():
    _, log = default_world()
    split = log.train
    assert split.probability_B is not None
    edges = np.quantile(split.probability_B, np.linspace(0, 1, 11))
    bin_B = np.clip(np.searchsorted(edges, split.probability_B) - 1, 0, 9)
    n = np.bincount(bin_B)
    p = np.bincount(bin_B, split.probability_B.astype(np.float64)) / n
    rate = np.bincount(bin_B, split.click_B) / n
    assert np.abs((rate - p) / np.sqrt(p * (1 - p) / n)).max() < 4


def test_popularity_and_activity_have_long_tails():
    world, log = default_world()
    per_item = np.sort(np.bincount(log.train.item_B))[::-1]
    per_user = np.sort(np.bincount(log.train.user_B))[::-1]
    assert per_item[: len(per_item) // 10].sum() > 0.35 * per_item.sum()
    assert per_user[: len(per_user) // 10].sum() > 0.25 * per_user.sum()
    assert (world.people.rate_U <= 1).all()


def test_habits_tell_something_and_looks_of_behaviors_much_more():
    world, log = default_world()
    test, catalog = log.test, world.catalog
    item = {
        name: log.items.ids_NF[test.item_B, column(log, "item", name)]
        for name in ("category", "brand", "price")
    }
    user_ids_BF = of_impressions(test, test.user_ids_GF)
    matches_B = sum(
        user_ids_BF[:, column(log, "user", f"declared_{name}")] == key_B
        for name, key_B in item.items()
    )
    n_behaviors_G = np.diff(test.behavior_offsets)
    group_H = np.repeat(np.arange(test.n_groups), n_behaviors_G)
    liked_GK = np.zeros((test.n_groups, catalog.look_NK.shape[1]))
    np.add.at(liked_GK, group_H, catalog.look_NK[test.behavior_item_H])
    liked_GK /= np.maximum(n_behaviors_G, 1)[:, None]
    match_B = (of_impressions(test, liked_GK) * catalog.look_NK[test.item_B]).sum(1)
    assert 0.52 < gauc(test.user_B, test.click_B, matches_B) < 0.6
    assert gauc(test.user_B, test.click_B, match_B) > 0.7


# The photos


def test_rows_are_sparse_non_negative_and_far_from_centered():
    _, log = world_and_log(WorldConfig(items=1000, content_width=256))
    features = in_memory(log.features)
    assert features.rows_VD.dtype == np.uint8
    assert features.scale_V is not None
    rows_VD = features.rows_VD * features.scale_V[:, None]
    assert 0.5 < (rows_VD == 0).mean() < 0.8
    assert np.median(rows_VD.mean(0) / rows_VD.std(0)) > 0.4


def test_a_hidden_layer_recovers_the_look_where_a_linear_map_cannot():
    """Ridge and a network with the compressor's hidden layers, on photos that neither has seen."""
    world = simulate(WorldConfig(content_width=256))
    catalog, features = world.catalog, world.features
    assert features.scale_V is not None
    rows_VD = features.rows_VD * features.scale_V[:, None]
    rows_VD = (rows_VD - rows_VD.mean(0)) / (rows_VD.std(0) + 1e-6)
    look_VK = catalog.look_NK[catalog.image_N != NO_IMAGE].astype(np.float32)
    seen, new = slice(0, 6000), slice(6000, None)
    linear = max(
        r2_score(
            look_VK[new],
            Ridge(alpha).fit(rows_VD[seen], look_VK[seen]).predict(rows_VD[new]),
            multioutput="variance_weighted",
        )
        for alpha in (1e2, 1e3, 1e4)
    )
    net = MLPRegressor(hidden_layer_sizes=(256, 64), max_iter=6, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        net.fit(rows_VD[seen], look_VK[seen])
    hidden = r2_score(look_VK[new], net.predict(rows_VD[new]), multioutput="variance_weighted")
    assert linear < 0.35
    assert hidden > 0.8


# Impossible worlds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": 5}, r"items: must be at least 100 \(items of the catalog.*found 5"),
        ({"users": 0}, "users: must be at least 10 .*found 0"),
        ({"seed": -1}, "seed: must be at least 0 .*found -1"),
        ({"users": True}, r"users: must be int .*found True \(bool\)"),
        ({"click_rate": 1.0}, "click_rate: must be at most 0.999 .*found 1.0"),
        ({"taste_gain": float("nan")}, "taste_gain: must be finite float .*found nan"),
        ({"no_image_share": 1.5}, "no_image_share: must be at most 0.9 .*found 1.5"),
        ({"visits_per_day": 0}, "visits_per_day: must be above 0 .*found 0"),
        ({"max_impressions": 3}, "max_impressions=3: must be at least min_impressions=6; raise"),
        ({"styles": 6}, "styles=6: must be more than the 6 dims of look_planes=3; give more"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"synthetic world, {message}"):
        WorldConfig(**changes)


def test_a_world_that_nobody_visits_is_refused():
    config = dataclasses.replace(SMALL, visits_per_day=1e-9)
    with pytest.raises(ConfigError, match="no impressions in days 8 to 13; give more users"):
        generate(config)


def test_a_day_with_nothing_on_show_is_refused():
    config = dataclasses.replace(SMALL, items=100, history_days=2000, lifetime_days=0.5)
    with pytest.raises(ConfigError, match=r"items=100: none is on show on day .* give more items"):
        generate(config)


def by_visit(log, split):
    """What a log tells of each visit of a split: user, behaviors, items, context, clicks."""
    of = getattr(log, split)
    cuts, behaviors = of.impression_offsets, of.behavior_offsets
    return [
        (
            of.user_G[g],
            tuple(of.user_ids_GF[g]),
            tuple(of.behavior_item_H[behaviors[g] : behaviors[g + 1]]),
            tuple(of.item_B[cuts[g] : cuts[g + 1]]),
            tuple(map(tuple, of.context_ids_BF[cuts[g] : cuts[g + 1]])),
            tuple(of.click_B[cuts[g] : cuts[g + 1]]),
        )
        for g in range(of.n_groups)
    ]


def test_unseen_days_move_the_window_and_change_nothing_in_it():
    """A day tells the same whether it is the newest known one or lies back."""
    days = dataclasses.replace(SMALL, train_days=3, test_days=1)
    today = generate(days)
    visits = by_visit(today, "train") + by_visit(today, "test")
    for unseen in (1, 2):
        earlier = generate(dataclasses.replace(days, unseen_days=unseen))
        test = by_visit(earlier, "test")
        assert test == [visit for visit in visits if visit in test]
        assert not set(test) & set(by_visit(earlier, "train"))
        assert len(set(by_visit(earlier, "train")) & set(visits)) == len(
            [visit for visit in by_visit(earlier, "train") if visit in visits]
        )
        assert earlier.vocabulary_sizes == today.vocabulary_sizes
        np.testing.assert_array_equal(earlier.items.image_N, today.items.image_N)
    assert not set(by_visit(generate(dataclasses.replace(days, unseen_days=4)), "test")) & {*visits}


def test_more_unseen_days_than_history_are_refused():
    with pytest.raises(ConfigError, match=r"unseen_days=9: must be at most history_days=8, of"):
        dataclasses.replace(SMALL, unseen_days=9)
