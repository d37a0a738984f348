"""An epoch over blocks on disk: their order, cut into a part for each lane, and into windows.

The blocks of a split come in an order drawn for each epoch. That stream of groups is cut at groups
into one part of equal impressions for each lane of a batch: lane ``a`` of batch ``n`` is the
``n``-th lane of part ``a``. Who has some lanes reads the blocks of their parts alone, and what is
in a batch does not depend on who reads it. Within a part, groups are mixed over windows of a few
blocks, so that little is in memory at a time.

All of this follows from the impressions of every group; no block is read for it.

Shape legend
    K   blocks     G   groups     W   windows of a part
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from dicm_jax.data.lanes import Arrangement, BatchShape, arranged
from dicm_jax.data.schema import StreamedGroups


class Run(NamedTuple):
    """Groups ``first .. end - 1`` of a block, counted in it."""

    block: int
    first: int
    end: int


class Place(NamedTuple):
    """Where a window stands."""

    epoch: int
    part: int
    window: int


@dataclasses.dataclass(frozen=True)
class Part:
    """What one lane of every batch of an epoch holds.

    Attributes:
      windows: the runs of each.
      first_lane_W: first lane of each window, and the number of lanes at the end, ``[W + 1]``.
    """

    windows: list[list[Run]]
    first_lane_W: np.ndarray

    @property
    def n_lanes(self) -> int:
        """Batches that the part has a lane in."""
        return int(self.first_lane_W[-1])

    def window_of(self, lane: int) -> tuple[int, int]:
        """The window that a lane is in, and its number there."""
        window = int(np.searchsorted(self.first_lane_W, lane, side="right")) - 1
        return window, lane - int(self.first_lane_W[window])


@dataclasses.dataclass(frozen=True)
class Order:
    """How the epochs of a streamed split are cut.

    Attributes:
      split: the split.
      shape: of a batch; it has a part for each lane.
      window_blocks: blocks of a window, at most.
      seed: of all orders; None keeps that of the log.
    """

    split: StreamedGroups
    shape: BatchShape
    window_blocks: int
    seed: int | None

    def parts(self, epoch: int) -> list[Part]:
        """The parts of an epoch, one for each lane of a batch."""
        order_K = np.arange(self.split.n_blocks)
        if self.seed is not None:
            order_K = np.random.default_rng((self.seed, epoch)).permutation(order_K)
        runs = equal_parts(self.split, order_K, self.shape.lanes)
        return [self._part(epoch, number, of_part) for number, of_part in enumerate(runs)]

    def arrangement(self, place: Place, runs: list[Run]) -> Arrangement:
        """The groups of a window, in its order, cut into lanes; it begins and ends with one."""
        sizes_G = np.concatenate([self.split.sizes(run.block)[run.first : run.end] for run in runs])
        seed = None if self.seed is None else (self.seed, *place)
        return arranged(sizes_G, self.shape, seed)

    def _part(self, epoch: int, number: int, runs: list[Run]) -> Part:
        count = -(-len(runs) // self.window_blocks)
        bounds = [len(runs) * window // count for window in range(count + 1)] if count else [0]
        windows = [runs[first:end] for first, end in itertools.pairwise(bounds)]
        lanes = [
            self.arrangement(Place(epoch, number, window), of_window).n_lanes
            for window, of_window in enumerate(windows)
        ]
        return Part(windows, np.cumsum([0, *lanes]))


def equal_parts(split: StreamedGroups, order_K: np.ndarray, parts: int) -> list[list[Run]]:
    """Cut blocks in the order `order_K` at groups into parts of equal impressions, or nearly so.

    Args:
      split: the split.
      order_K: its blocks, each once.
      parts: how many; those that nothing is left for have no runs.
    """
    ends_K = np.cumsum(np.diff(split.first_impression_K)[order_K])
    groups_K = np.diff(split.first_group_K)[order_K]

    def begin(part: int) -> tuple[int, int]:
        """Where a part begins: a place in the order, and a group of the block that stands there."""
        before = int(ends_K[-1]) * part // parts
        k = int(np.searchsorted(ends_K, before, side="right"))
        if k == len(order_K):
            return k, 0
        sizes_G = split.sizes(int(order_K[k])).astype(np.int64)
        starts_G = ends_K[k] - sizes_G.sum() + np.cumsum(sizes_G) - sizes_G
        return k, int(np.searchsorted(starts_G, before, side="left"))

    def runs(begin: tuple[int, int], end: tuple[int, int]) -> list[Run]:
        (begin_k, first), (end_k, stop) = begin, end
        made = [
            Run(
                int(order_K[k]),
                first if k == begin_k else 0,
                stop if k == end_k else int(groups_K[k]),
            )
            for k in range(begin_k, end_k + (stop > 0))
        ]
        return [run for run in made if run.first < run.end]

    begins = [(0, 0), *(begin(part) for part in range(1, parts)), (len(order_K), 0)]
    return [runs(*pair) for pair in itertools.pairwise(begins)]
