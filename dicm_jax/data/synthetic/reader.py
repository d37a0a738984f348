"""The log of the synthetic world: the built-in data, with a known probability of every click.

The world itself is told in `world.py`; here its days are cut into groups and splits, and
what a log does not show is dropped. A group is one visit: a user on a day. Its behaviors are the
newest clicks of earlier days, drawn by the same process, from the history days on.

Shape legend
    N   items               G   groups (visits)     B   impressions
    T   days                C   clicks              H   behaviors over all groups
    F   ID fields of one level
"""

import dataclasses

import numpy as np

from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions, IdField, Items
from dicm_jax.data.synthetic.config import WorldConfig
from dicm_jax.data.synthetic.world import AGE_BANDS, GENDERS, Impressions, World, simulate
from dicm_jax.errors import ConfigError

__all__ = ["FIELDS", "WorldConfig", "generate", "to_log"]

FIELDS = (
    IdField("gender", "gender", "user"),
    IdField("age_band", "age_band", "user"),
    IdField("activity", "activity", "user"),
    IdField("declared_category", "category", "user"),
    IdField("declared_brand", "brand", "user"),
    IdField("declared_price", "price", "user"),
    IdField("image", "image", "item"),
    IdField("category", "category", "item"),
    IdField("brand", "brand", "item"),
    IdField("price", "price", "item"),
    IdField("position", "position", "context"),
    IdField("item_clicks", "item_clicks", "context"),
    IdField("item_age", "item_age", "context"),
    IdField("behavior_image", "image", "behavior"),
)
BUCKETS = 10
"""Buckets of counts and ages: bucket b holds 2**b - 1 .. 2**(b + 1) - 2, the last one the rest."""


def generate(config: WorldConfig) -> ClickLog:
    """The log of the world of `config`; the same for the same config, NumPy and kind of processor.

    The number of threads does not matter.

    Example:
      >>> log = generate(WorldConfig(seed=1))
      >>> log.features.rows_VD.shape[1]
      4096

    Raises:
      ConfigError: there is nothing to show on some day, or a split has no impressions.
    """
    return to_log(config, simulate(config))


def to_log(config: WorldConfig, world: World) -> ClickLog:
    """Cuts the days into groups and splits, and drops what a log does not show."""
    shown = world.impressions
    clicks_TN = np.zeros((config.days + 1, config.items), np.int64)
    np.add.at(clicks_TN[1:], (shown.day_B, shown.item_B), shown.click_B)
    clicks_TN = np.cumsum(clicks_TN, axis=0)  # row t: clicks before day t
    first_test_day = config.first_train_day + config.train_days
    end_day = first_test_day + config.test_days
    train = _cut(config, world, clicks_TN, config.first_train_day, first_test_day)
    test = _cut(config, world, clicks_TN, first_test_day, end_day)
    known_N = np.zeros(config.items, bool)
    known_N[train.item_B] = True
    known_N[train.behavior_item_H] = True
    test = dataclasses.replace(test, cold_B=~known_N[test.item_B])
    catalog = world.catalog
    ids = (np.arange(config.items), catalog.category_N, catalog.brand_N, catalog.price_N)
    return ClickLog(
        name=f"synthetic-{config.seed}",
        fields=FIELDS,
        vocabulary_sizes=_vocabulary_sizes(config),
        items=Items(ids_NF=np.stack(ids, axis=1).astype(np.int32), image_N=catalog.image_N),
        features=world.features,
        train=train,
        test=test,
        notes=_notes(world, train, test),
    )


def _cut(
    config: WorldConfig, world: World, clicks_TN: np.ndarray, first_day: int, end_day: int
) -> GroupedImpressions:
    """The split of the days ``[first_day, end_day)``; a group is the visit of a user and day."""
    shown = world.impressions
    rows = slice(*np.searchsorted(shown.day_B, (first_day, end_day)))
    user_B, day_B, item_B = shown.user_B[rows], shown.day_B[rows], shown.item_B[rows]
    if not len(user_B):
        raise ConfigError(
            f"synthetic world, users={config.users}, visits_per_day={config.visits_per_day}: "
            f"no impressions in days {first_day} to {end_day - 1}; give more users or visits"
        )
    first_G = np.flatnonzero(shown.position_B[rows] == 0)
    user_G, day_G = user_B[first_G], day_B[first_G]
    behavior_offsets, behavior_item_H, n_clicks_G = _behaviors(config, shown, user_G, day_G)
    profile_GF = world.people.profile_UF[user_G]
    user_ids_GF = np.insert(profile_GF, 2, _bucket(n_clicks_G), axis=1)
    context = (
        shown.position_B[rows],
        _bucket(clicks_TN[day_B, item_B]),
        _bucket(day_B - world.catalog.born_N[item_B]),
    )
    return GroupedImpressions(
        user_G=user_G.astype(np.int32),
        user_ids_GF=user_ids_GF.astype(np.int32),
        behavior_offsets=behavior_offsets,
        behavior_item_H=behavior_item_H.astype(np.int32),
        impression_offsets=np.append(first_G, len(user_B)).astype(np.int64),
        item_B=item_B.astype(np.int32),
        context_ids_BF=np.stack(context, axis=1).astype(np.int32),
        click_B=shown.click_B[rows].astype(np.uint8),
        cold_B=np.zeros(len(user_B), bool),
        probability_B=shown.probability_B[rows].astype(np.float32),
    )


def _behaviors(
    config: WorldConfig, shown: Impressions, user_G: np.ndarray, day_G: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR offsets and items of the newest clicks before each group's day, and all clicks so far."""
    clicked = np.flatnonzero(shown.click_B)
    time_C = shown.user_B[clicked] * config.days + shown.day_B[clicked]
    order = np.argsort(time_C, kind="stable")
    time_C, item_C = time_C[order], shown.item_B[clicked][order]
    start_G = np.searchsorted(time_C, user_G * config.days)
    end_G = np.searchsorted(time_C, user_G * config.days + day_G)
    n_G = np.minimum(end_G - start_G, config.max_behaviors)
    offsets = np.concatenate([[0], np.cumsum(n_G)]).astype(np.int64)
    place_H = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - (end_G - n_G), n_G)
    return offsets, item_C[place_H], end_G - start_G


def _vocabulary_sizes(config: WorldConfig) -> dict[str, int]:
    return {
        "gender": GENDERS,
        "age_band": AGE_BANDS,
        "activity": BUCKETS,
        "category": config.categories,
        "brand": config.brands,
        "price": config.price_levels,
        "image": config.items,
        "position": config.max_impressions,
        "item_clicks": BUCKETS,
        "item_age": BUCKETS,
    }


def _notes(world: World, train: GroupedImpressions, test: GroupedImpressions) -> dict[str, float]:
    """Counts worth printing."""
    n_behaviors_G = np.diff(train.behavior_offsets)
    test_clicks = test.click_B == 1
    return {
        "items_without_image": float((world.catalog.image_N == NO_IMAGE).sum()),
        "train_click_rate": float(train.click_B.mean()),
        "test_click_rate": float(test.click_B.mean()),
        "behaviors_per_group": float(n_behaviors_G.mean()),
        "groups_without_behaviors": float((n_behaviors_G == 0).mean()),
        "cold_share_of_test_clicks": float(test.cold_B[test_clicks].mean()),
    }


def _bucket(count: np.ndarray) -> np.ndarray:
    """``floor(log2(count + 1))``, at most the last bucket."""
    exact = np.frexp(count + 1.0)[1] - 1
    return np.minimum(exact, BUCKETS - 1)
