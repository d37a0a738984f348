"""Lanes: cells of a fixed number of impressions and groups that a stream of groups is cut into.

Shape legend
    A   lanes     G   groups (of the stream, or of a lane)     B   impressions of a lane
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """Size of a batch.

    Attributes:
      lanes: ``A``, cells of a batch.
      impressions: ``B``, impressions of a lane.
      groups: ``G``, groups of a lane; a lane is closed early where it would need more.
      behaviors: ``L``, newest behaviors kept of each group.
      whole_groups: a group that does not fit the rest of a lane starts the next one, and only a
        group larger than a lane is split; else every group is split where its lane is full.
    """

    lanes: int
    impressions: int
    groups: int
    behaviors: int
    whole_groups: bool = False


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Groups in an order, as one stream of impressions, cut into lanes.

    Attributes:
      order_G: the groups.
      ends_G: where each of them, in this order, ends in the stream.
      bounds: of the lanes, places in the stream, ``[lanes + 1]``.
    """

    order_G: np.ndarray
    ends_G: np.ndarray
    bounds: np.ndarray

    @property
    def n_lanes(self) -> int:
        """Lanes that hold something."""
        return len(self.bounds) - 1


@dataclasses.dataclass(frozen=True)
class Places:
    """Which group and which place of the stream each cell of some lanes holds.

    Attributes:
      stream_AB: place in the stream of impressions; real_AB: whether there is an impression.
      rank_AB: its group, counted in the stream's order; group_AB: counted in its lane.
      rank_AG: the groups of each lane, in the stream's order; real_AG: whether there is a group.
    """

    stream_AB: np.ndarray
    real_AB: np.ndarray
    rank_AB: np.ndarray
    group_AB: np.ndarray
    rank_AG: np.ndarray
    real_AG: np.ndarray


def arranged(sizes_G: np.ndarray, shape: BatchShape, seed: tuple[int, ...] | None) -> Arrangement:
    """Groups in an order drawn by `seed`, or as they are where it is None, cut into lanes.

    Args:
      sizes_G: impressions of each group.
      shape: of the lanes.
      seed: of the order.
    """
    order_G = np.arange(len(sizes_G))
    if seed is not None:
        order_G = np.random.default_rng(seed).permutation(order_G)
    ends_G = np.cumsum(sizes_G[order_G], dtype=np.int64)
    return Arrangement(order_G, ends_G, lane_bounds(ends_G, shape))


def lane_bounds(ends: np.ndarray, shape: BatchShape) -> np.ndarray:
    """Cut a stream of impressions into lanes.

    Args:
      ends: where each group ends in the stream, ascending.
      shape: a lane holds at most ``shape.impressions`` impressions of at most ``shape.groups``
        groups; see there for ``whole_groups``.

    Returns:
      Bounds of the lanes, ``[lanes + 1]``, from 0 to the end of the stream.

    >>> lane_bounds(np.array([3, 4, 5, 9]), BatchShape(1, impressions=4, groups=2, behaviors=1))
    array([0, 4, 8, 9])
    >>> whole = BatchShape(1, impressions=4, groups=2, behaviors=1, whole_groups=True)
    >>> lane_bounds(np.array([3, 5, 10, 11]), whole)  # the third group has 5 impressions
    array([ 0,  3,  5,  9, 11])
    """
    total = int(ends[-1])
    bounds = [0]
    while bounds[-1] < total:
        start = bounds[-1]
        first = int(np.searchsorted(ends, start, side="right"))
        last = min(first + shape.groups, len(ends)) - 1
        end = min(start + shape.impressions, int(ends[last]))
        if shape.whole_groups and end >= ends[first]:
            end = int(ends[np.searchsorted(ends, end, side="right") - 1])
        bounds.append(end)
    return np.array(bounds)


def places(arrangement: Arrangement, lane_A: np.ndarray, shape: BatchShape) -> Places:
    """What the lanes `lane_A` of a stream hold; lanes beyond its end are empty."""
    ends, n_lanes = arrangement.ends_G, arrangement.n_lanes
    start_A1 = arrangement.bounds[np.minimum(lane_A, n_lanes)][:, None]
    end_A1 = arrangement.bounds[np.minimum(lane_A + 1, n_lanes)][:, None]
    stream_AB = start_A1 + np.arange(shape.impressions)
    real_AB = stream_AB < end_A1
    first_A1 = np.searchsorted(ends, start_A1, side="right")
    last_A1 = np.searchsorted(ends, end_A1 - 1, side="right")
    rank_AB = np.where(real_AB, np.searchsorted(ends, stream_AB, side="right"), 0)
    rank_AG = first_A1 + np.arange(shape.groups)
    real_AG = (rank_AG <= last_A1) & (start_A1 < end_A1)
    return Places(
        stream_AB=stream_AB,
        real_AB=real_AB,
        rank_AB=rank_AB,
        group_AB=np.where(real_AB, rank_AB - first_A1, 0).astype(np.int32),
        rank_AG=np.where(real_AG, rank_AG, 0),
        real_AG=real_AG,
    )
