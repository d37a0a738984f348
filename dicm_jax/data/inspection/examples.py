"""A few groups of a prepared set, to be looked at.

Shape legend
    G   groups of a block     B   impressions     K   groups that are shown
"""

import dataclasses

import numpy as np

from dicm_jax.data.inspection.walk import OpenSet
from dicm_jax.data.schema import GroupedImpressions

GROUPS = 8
SHOWN_BEHAVIORS = 14
"""Behaviors shown of a group, the newest."""
SHOWN_IMPRESSIONS = 14
ENOUGH = 6
"""Behaviors that make a group worth looking at, if it has clicks and others as well."""
_MOST_BLOCKS = 64


@dataclasses.dataclass(frozen=True)
class ShownItem:
    """An impression: number of the item, whether it was clicked, whether the item is cold."""

    item: int
    clicked: bool
    cold: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """A group.

    Attributes:
      split: it is in.
      user: its user's number.
      second: its time since 1970, if it has one.
      behaviors: items of the newest behaviors, oldest first.
      all_behaviors: how many there are.
      impressions: some of its impressions, clicked ones first.
      all_impressions, all_clicks: how many there are.
    """

    split: str
    user: int
    second: int | None
    behaviors: tuple[int, ...]
    all_behaviors: int
    impressions: tuple[ShownItem, ...]
    all_impressions: int
    all_clicks: int

    @property
    def items(self) -> list[int]:
        """All items that are shown."""
        return [*self.behaviors, *(shown.item for shown in self.impressions)]


def sample_examples(opened: OpenSet, count: int = GROUPS, seed: int = 0) -> list[Example]:
    """Groups of the newest split, drawn at random, of users all different.

    Groups with `ENOUGH` behaviors, a click and an impression without one are preferred to those
    with any behavior, and these to the rest. At most 64 blocks, drawn at random, are read.

    Raises:
      DataError: a block cannot be read.
    """
    split = opened.splits[-1]
    records, rng = opened.open(split), np.random.default_rng(seed)
    by_rank: list[dict[int, Example]] = [{}, {}, {}]  # and by user
    for number in rng.permutation(opened.records_of(split))[:_MOST_BLOCKS].tolist():
        block = opened.block(records, split, number)
        rank_G = _rank(block)
        for group in rng.permutation(block.n_groups).tolist():
            of_rank, user = by_rank[rank_G[group]], int(block.user_G[group])
            if len(of_rank) < count and user not in of_rank:
                of_rank[user] = _example(block, split, group)
        if len(by_rank[0]) == count:
            break
    best: dict[int, Example] = {}
    for of_rank in by_rank:
        best |= {user: example for user, example in of_rank.items() if user not in best}
    return list(best.values())[:count]


def _rank(block: GroupedImpressions) -> np.ndarray:
    """0 for groups that are worth most to look at, then 1 and 2."""
    lengths_G, sizes_G = np.diff(block.behavior_offsets), np.diff(block.impression_offsets)
    group_B = np.repeat(np.arange(block.n_groups), sizes_G)
    clicks_G = np.bincount(group_B, weights=block.click_B, minlength=block.n_groups)
    best_G = (lengths_G >= ENOUGH) & (clicks_G > 0) & (clicks_G < sizes_G)
    return np.where(best_G, 0, np.where(lengths_G > 0, 1, 2))


def _example(block: GroupedImpressions, split: str, group: int) -> Example:
    start, end = block.behavior_offsets[group : group + 2].tolist()
    impressions = slice(*block.impression_offsets[group : group + 2].tolist())
    item_B, click_B = block.item_B[impressions], block.click_B[impressions]
    cold_B = block.cold_B[impressions]
    clicked, other = np.flatnonzero(click_B), np.flatnonzero(click_B == 0)
    most_clicked = max(SHOWN_IMPRESSIONS // 2, SHOWN_IMPRESSIONS - len(other))
    shown_K = np.concatenate([clicked[:most_clicked], other])[:SHOWN_IMPRESSIONS]
    return Example(
        split=split,
        user=int(block.user_G[group]),
        second=None if block.time_G is None else int(block.time_G[group]),
        behaviors=tuple(block.behavior_item_H[max(start, end - SHOWN_BEHAVIORS) : end].tolist()),
        all_behaviors=end - start,
        impressions=tuple(
            ShownItem(int(item_B[k]), bool(click_B[k]), bool(cold_B[k])) for k in shown_K
        ),
        all_impressions=len(item_B),
        all_clicks=int((click_B != 0).sum()),
    )
