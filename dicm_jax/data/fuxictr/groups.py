"""Sample groups of a FuxiCTR split: rows of one user with the same fields and behaviors.

Shape legend
    E   rows of the file = B impressions        G   groups
    H   behaviors                               F   ID fields of a level
"""

import numpy as np
import pyarrow as pa

from dicm_jax.data.schema import GroupedImpressions


def newest(
    offsets: np.ndarray, item_H: np.ndarray, most: int, *, newest_first: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """The newest behaviors of each row, oldest first, without padding (-1).

    Returns:
      CSR offsets, items, and how many older ones are left out.
    """
    kept_H = item_H >= 0
    ends = np.concatenate([[0], np.cumsum(kept_H)])[offsets]
    item_H, all_E = item_H[kept_H], np.diff(ends)
    length_E = np.minimum(all_E, most)
    offsets = np.concatenate([[0], np.cumsum(length_E)]).astype(np.int64)
    place_H = np.arange(offsets[-1]) - np.repeat(offsets[:-1], length_E)
    if newest_first:
        at_H = np.repeat(ends[:-1] + length_E - 1, length_E) - place_H
    else:
        at_H = np.repeat(ends[1:] - length_E, length_E) + place_H
    return offsets, item_H[at_H], int((all_E - length_E).sum())


def grouped(
    user_E: np.ndarray,
    user_ids_EF: np.ndarray,
    behaviors: tuple[np.ndarray, np.ndarray],
    item_E: np.ndarray,
    context_ids_EF: np.ndarray,
    click_E: np.ndarray,
) -> GroupedImpressions:
    """Groups in the order of their first row; `cold_B` is False throughout.

    Args:
      user_E: index of the user of each row.
      user_ids_EF, context_ids_EF: int32 keys.
      behaviors: CSR offsets and items of each row.
      item_E: the item of each row.
      click_E: the label of each row.
    """
    offsets, item_H = behaviors
    group_E = _same(user_E, [*user_ids_EF.T, _texts_of(offsets, item_H)])
    order_B = np.argsort(group_E, kind="stable")
    sizes_G = np.bincount(group_E)
    first_G = order_B[np.cumsum(sizes_G) - sizes_G]
    length_G = np.diff(offsets)[first_G]
    behavior_offsets = np.concatenate([[0], np.cumsum(length_G)]).astype(np.int64)
    shift_G = offsets[first_G] - behavior_offsets[:-1]
    position_H = np.repeat(shift_G, length_G) + np.arange(behavior_offsets[-1])
    return GroupedImpressions(
        user_G=user_E[first_G],
        user_ids_GF=user_ids_EF[first_G],
        behavior_offsets=behavior_offsets,
        behavior_item_H=item_H[position_H],
        impression_offsets=np.concatenate([[0], np.cumsum(sizes_G)]).astype(np.int64),
        item_B=item_E[order_B],
        context_ids_BF=context_ids_EF[order_B],
        click_B=click_E[order_B],
        cold_B=np.zeros(len(item_E), bool),
    )


def _texts_of(offsets: np.ndarray, item_H: np.ndarray) -> np.ndarray:
    """A number for each row, equal where the rows' behaviors are."""
    item_H = np.ascontiguousarray(item_H, np.int32)
    buffers = [None, pa.py_buffer(offsets * item_H.itemsize), pa.py_buffer(item_H)]
    rows = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    return rows.dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _same(first_E: np.ndarray, more: list[np.ndarray]) -> np.ndarray:
    """A number for each row, equal where all columns are, rising with the first such row."""
    group_E = first_E.astype(np.int64)
    for column_E in more:
        pair_E = group_E * (int(column_E.max()) + 1) + column_E
        group_E = np.unique(pair_E, return_inverse=True)[1]
    _, first_G, group_E = np.unique(group_E, return_index=True, return_inverse=True)
    rank_G = np.empty(len(first_G), np.int64)
    rank_G[np.argsort(first_G)] = np.arange(len(first_G))
    return rank_G[group_E]
