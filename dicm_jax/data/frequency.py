"""How often each ID occurs in the train split.

Shape legend
    V   keys of the stacked ID table     G   groups     B   impressions     H   behaviors
"""

import numpy as np

from dicm_jax.data.batches import Source
from dicm_jax.data.schema import GroupedImpressions


def key_counts(source: Source) -> np.ndarray:
    """Impressions of one epoch in which each key occurs, int64 ``[V]``.

    What impressions share as a group (user fields, behaviors) counts once for each of them; an item
    that is a behavior twice counts twice.
    """
    counts_V = np.zeros(source.stack.n_keys, np.int64)
    for piece in source.pieces():
        _count(source, piece, counts_V)
    return counts_V


def _count(source: Source, split: GroupedImpressions, counts_V: np.ndarray) -> None:
    """Adds the occurrences in some groups."""
    stack = source.stack
    impressions_G = np.diff(split.impression_offsets)
    behaviors_G = np.diff(split.behavior_offsets)
    group_H = np.repeat(np.arange(split.n_groups), behaviors_G)
    newest_H = (
        np.arange(len(group_H)) >= split.behavior_offsets[1:][group_H] - source.shape.behaviors
    )
    item_H, group_H = split.behavior_item_H[newest_H], group_H[newest_H]
    once_B = np.ones(split.n_impressions, np.int64)
    for keys_F, times in (
        (split.user_ids_GF + stack.user_F, impressions_G),
        (source.log.items.ids_NF[split.item_B] + stack.item_F, once_B),
        (split.context_ids_BF + stack.context_F, once_B),
        (stack.behavior_key_NF[item_H], impressions_G[group_H]),
    ):
        for keys in keys_F.T:
            np.add.at(counts_V, keys, times)  # not np.bincount: that would cost V for each piece
