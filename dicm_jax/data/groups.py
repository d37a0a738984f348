"""Groups of a split taken apart and put together: a run of them, some of them, several splits.

Shape legend
    G   groups     B   impressions     H   behaviors over all groups     K   chosen groups
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dicm_jax.data.schema import GroupedImpressions

_OF_GROUPS = ("user_G", "user_ids_GF", "time_G")
_OF_IMPRESSIONS = ("item_B", "context_ids_BF", "click_B", "cold_B", "probability_B")


def cut(split: GroupedImpressions, first: int, end: int) -> GroupedImpressions:
    """The groups from `first` up to, but not including, `end`."""
    behaviors = slice(*split.behavior_offsets[[first, end]])
    rows = slice(*split.impression_offsets[[first, end]])
    return _assembled(
        {name: _part(split, name, slice(first, end)) for name in _OF_GROUPS}
        | {name: _part(split, name, rows) for name in _OF_IMPRESSIONS},
        split.behavior_offsets[first : end + 1] - split.behavior_offsets[first],
        split.behavior_item_H[behaviors],
        split.impression_offsets[first : end + 1] - split.impression_offsets[first],
    )


def chosen(split: GroupedImpressions, group_K: np.ndarray) -> GroupedImpressions:
    """The groups `group_K`, in that order."""
    behavior_offsets, behavior_H = places(split.behavior_offsets, group_K)
    impression_offsets, impression_B = places(split.impression_offsets, group_K)
    return _assembled(
        {name: _part(split, name, group_K) for name in _OF_GROUPS}
        | {name: _part(split, name, impression_B) for name in _OF_IMPRESSIONS},
        behavior_offsets,
        split.behavior_item_H[behavior_H],
        impression_offsets,
    )


def joined(parts: Sequence[GroupedImpressions]) -> GroupedImpressions:
    """The groups of all parts, one part after the other; at least one part."""

    def all_of(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if any(array is None for array in arrays) else np.concatenate(arrays)

    return _assembled(
        {name: all_of(name) for name in (*_OF_GROUPS, *_OF_IMPRESSIONS)},
        _offsets(np.concatenate([np.diff(part.behavior_offsets) for part in parts])),
        np.concatenate([part.behavior_item_H for part in parts]),
        _offsets(np.concatenate([np.diff(part.impression_offsets) for part in parts])),
    )


def places(offsets: np.ndarray, group_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """New CSR offsets of chosen groups, and where their entries lie in the old values.

    >>> places(np.array([0, 2, 5, 6]), np.array([2, 1]))
    (array([0, 1, 4]), array([5, 2, 3, 4]))
    """
    length_K = offsets[group_K + 1] - offsets[group_K]
    new = _offsets(length_K)
    return new, np.repeat(offsets[group_K] - new[:-1], length_K) + np.arange(new[-1])


def _offsets(length_K: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(length_K)]).astype(np.int64)


def _part(split: GroupedImpressions, name: str, which: slice | np.ndarray) -> np.ndarray | None:
    array = getattr(split, name)
    return None if array is None else array[which]


def _assembled(
    columns: dict[str, np.ndarray | None],
    behavior_offsets: np.ndarray,
    behavior_item_H: np.ndarray,
    impression_offsets: np.ndarray,
) -> GroupedImpressions:
    known = {field.name for field in dataclasses.fields(GroupedImpressions)}
    assert columns.keys() < known  # every array of a split is carried along
    return GroupedImpressions(
        **columns,  # pyright: ignore[reportArgumentType]
        behavior_offsets=behavior_offsets,
        behavior_item_H=behavior_item_H,
        impression_offsets=impression_offsets,
    )
