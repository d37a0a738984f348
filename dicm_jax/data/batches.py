"""A split of a log cut into batches: every impression once an epoch, at a place known in advance.

A batch is made of `lanes`, cells of a fixed number of impressions and groups. Groups come in an
order drawn for each epoch and fill one lane after another; a group that does not fit is split, and
its user part stands in both lanes. Devices take whole lanes, so what is in a batch, and in which
order, does not depend on how many devices there are. Batch ``n`` can be built without building
those before it, so the position of a run is a single number.

Shape legend
    A   lanes of a batch
"""

import functools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from dicm_jax.data.key_batch import FieldStack, KeyBatch, KeyMaker
from dicm_jax.data.lanes import Arrangement, BatchShape, arranged
from dicm_jax.data.schema import ClickLog, GroupedImpressions


@runtime_checkable
class Source(Protocol):
    """The batches of a split as a random-access sequence, epoch after epoch.

    Attributes:
      log: where items and fields come from.
      shape: size of a batch.
      stack: the ID fields.
    """

    log: ClickLog
    shape: BatchShape
    stack: FieldStack

    def __len__(self) -> int:
        """Batches of all epochs."""
        ...

    def __getitem__(self, batch: int) -> KeyBatch:
        """A batch, all its lanes.

        Raises:
          IndexError: there is no such batch.
        """
        ...

    def lanes(self, batch: int, which: np.ndarray) -> KeyBatch:
        """The lanes of a batch whose numbers are `which`, in that order.

        Raises:
          IndexError: there is no such batch.
        """
        ...

    def pieces(self) -> Iterator[GroupedImpressions]:
        """All groups of the split once, in pieces that fit in memory."""
        ...


class Epochs:
    """Counts batches over epochs.

    Args:
      lengths: batches of each epoch.
    """

    def __init__(self, lengths: list[int]):
        self.first_batch = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self.first_batch[-1])

    def place(self, batch: int) -> tuple[int, int]:
        """The epoch that a batch belongs to, and its number there.

        Raises:
          IndexError: there is no such batch.
        """
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of a source of {len(self)} batches")
        epoch = int(np.searchsorted(self.first_batch, batch, side="right")) - 1
        return epoch, batch - int(self.first_batch[epoch])


class BatchSource:
    """The batches of a split that is in memory; see `Source`.

    Args:
      log: where items and fields come from.
      split: the impressions.
      shape: size of a batch.
      epochs: passes over the split.
      seed: of the order of groups, drawn anew each epoch; None keeps the order of the log.
    """

    def __init__(
        self,
        log: ClickLog,
        split: GroupedImpressions,
        shape: BatchShape,
        *,
        epochs: int = 1,
        seed: int | None = None,
    ):
        self.log = log
        self.split = split
        self.shape = shape
        self.stack = FieldStack(log)
        self.seed = seed
        self._keys = KeyMaker(log, self.stack, shape)
        self._epochs = Epochs([-(-self._epoch(e).n_lanes // shape.lanes) for e in range(epochs)])

    @property
    def first_batch(self) -> np.ndarray:
        """The first batch of each epoch, and the number of batches at the end."""
        return self._epochs.first_batch

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, batch: int) -> KeyBatch:
        return self.lanes(batch, np.arange(self.shape.lanes))

    def lanes(self, batch: int, which: np.ndarray) -> KeyBatch:
        """The lanes `which` of a batch."""
        epoch, number = self._epochs.place(batch)
        lane_A = number * self.shape.lanes + which
        return self._keys.lanes(self.split, self._epoch(epoch), lane_A)

    def pieces(self) -> Iterator[GroupedImpressions]:
        """The split."""
        yield self.split

    @functools.lru_cache(maxsize=2)  # noqa: B019  (a source lives as long as its run)
    def _epoch(self, epoch: int) -> Arrangement:
        """An epoch's order of groups, and its lanes."""
        seed = None if self.seed is None else (self.seed, epoch)
        return arranged(np.diff(self.split.impression_offsets), self.shape, seed)
