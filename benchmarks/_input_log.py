"""A log of the shape that input is timed on, and its impressions as rows of their own.

Shape legend
    N   items, one image each    G   groups    B   impressions    H   behaviors over all groups
    L   behaviors per group      F   ID fields of an impression
"""

from typing import NamedTuple

import numpy as np

from dicm_jax.data.schema import ClickLog, Features, GroupedImpressions, IdField, Items

PER_GROUP, MOST_BEHAVIORS = 10, 50
_ITEMS, _CATEGORIES, _BRANDS, _AGES, _PLACES, _WIDTH = 100_000, 300, 5_000, 10, 20, 8

FIELDS = (
    IdField("user", "user", "user"),
    IdField("age", "age", "user"),
    IdField("item", "item", "item"),
    IdField("category", "category", "item"),
    IdField("brand", "brand", "item"),
    IdField("place", "place", "context"),
    IdField("behavior_item", "item", "behavior"),
)
"""Six of an impression and one of each behavior."""

COLUMNS = tuple(field.name for field in FIELDS if field.level != "behavior")


def random_log(groups: int, seed: int = 0) -> ClickLog[GroupedImpressions]:
    """Groups of ten impressions and 17 to 50 behaviors, 33.5 on average.

    Items come by the inverse of their rank. A feature row has eight numbers: no row is read where
    input is planned.

    Args:
      groups: of the train split.
      seed: of everything.
    """
    rng = np.random.default_rng(seed)
    users = max(1, groups // 4)
    item_N = np.arange(_ITEMS, dtype=np.int32)
    ids_NF = [item_N, rng.integers(0, _CATEGORIES, _ITEMS), rng.integers(0, _BRANDS, _ITEMS)]
    sizes = {"user": users, "age": _AGES, "item": _ITEMS, "category": _CATEGORIES}
    item_of_rank_N = rng.permutation(item_N)
    return ClickLog(
        name="random",
        fields=FIELDS,
        vocabulary_sizes=sizes | {"brand": _BRANDS, "place": _PLACES},
        items=Items(np.stack(ids_NF, axis=1).astype(np.int32), rng.permutation(item_N)),
        features=Features(rng.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)),
        train=_groups(rng, groups, users, item_of_rank_N),
        test=_groups(rng, 1, users, item_of_rank_N),
    )


def _groups(
    rng: np.random.Generator, groups: int, users: int, item_of_rank_N: np.ndarray
) -> GroupedImpressions:
    upto_N = np.cumsum(1 / np.arange(1, _ITEMS + 1))
    shown = lambda n: item_of_rank_N[np.searchsorted(upto_N, rng.random(n) * upto_N[-1])]  # noqa: E731
    length_G = rng.integers(17, MOST_BEHAVIORS + 1, groups)
    user_G = rng.integers(0, users, groups).astype(np.int32)
    count = groups * PER_GROUP
    return GroupedImpressions(
        user_G=user_G,
        user_ids_GF=np.stack([user_G, user_G % _AGES], axis=1),
        behavior_offsets=np.concatenate([[0], np.cumsum(length_G)]),
        behavior_item_H=shown(int(length_G.sum())),
        impression_offsets=np.arange(groups + 1, dtype=np.int64) * PER_GROUP,
        item_B=shown(count),
        context_ids_BF=rng.integers(0, _PLACES, (count, 1)).astype(np.int32),
        click_B=(rng.random(count) < 0.05).astype(np.uint8),
        cold_B=np.zeros(count, bool),
    )


class Rows(NamedTuple):
    """Impressions as rows of a table, each with the behaviors of its group.

    Attributes:
      ids_BF: the keys of `COLUMNS`.
      group_B: the group of each.
      behavior_offsets, behavior_item_H: behaviors of the groups, as in `GroupedImpressions`.
      click_B: the label.
    """

    ids_BF: np.ndarray
    group_B: np.ndarray
    behavior_offsets: np.ndarray
    behavior_item_H: np.ndarray
    click_B: np.ndarray


def rows_of(log: ClickLog[GroupedImpressions]) -> Rows:
    """The train split of a log of `FIELDS`, flattened."""
    split = log.train
    group_B = np.repeat(np.arange(split.n_groups), np.diff(split.impression_offsets))
    of_level = [split.user_ids_GF[group_B], log.items.ids_NF[split.item_B], split.context_ids_BF]
    return Rows(
        np.concatenate(of_level, axis=1),
        group_B,
        split.behavior_offsets,
        split.behavior_item_H,
        split.click_B,
    )
