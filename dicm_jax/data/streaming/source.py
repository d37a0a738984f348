"""Batches of a split that is larger than memory, read from its blocks as they are needed.

Shape legend
    A   lanes of a batch     K   blocks
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from dicm_jax.data.batches import Epochs
from dicm_jax.data.key_batch import FieldStack, KeyBatch, KeyMaker, side_by_side
from dicm_jax.data.lanes import BatchShape
from dicm_jax.data.schema import ClickLog, GroupedImpressions, StreamedGroups
from dicm_jax.data.streaming.parts import Order, Place
from dicm_jax.data.streaming.windows import KEPT, BlockReader, Window, WindowCache, read_window

_IMPRESSIONS_TOGETHER = 2048
"""Keys of small lanes are looked up for several at once: a look-up takes its time for even one."""


class StreamSource:
    """The batches of a split on disk; see `dicm_jax.data.batches.Source`.

    Every impression comes once an epoch, and batch ``n`` can be built at once, as from memory; the
    order is another, see `dicm_jax.data.streaming.parts`. In memory are `KEPT` windows of each lane
    that is asked for.

    Args:
      log: where items and fields come from.
      split: the impressions.
      shape: size of a batch.
      window_blocks: blocks that groups are mixed over, at most.
      epochs: passes over the split.
      seed: of the order of blocks and groups, drawn anew each epoch; None keeps that of the log.
    """

    def __init__(
        self,
        log: ClickLog,
        split: StreamedGroups,
        shape: BatchShape,
        *,
        window_blocks: int,
        epochs: int = 1,
        seed: int | None = None,
    ):
        self.log = log
        self.split = split
        self.shape = shape
        self.stack = FieldStack(log)
        self._order = Order(split, shape, window_blocks, seed)
        self._keys = KeyMaker(log, self.stack, shape)
        self._block = BlockReader(log, split)
        self._windows = WindowCache(self._read)
        self._together = max(1, _IMPRESSIONS_TOGETHER // shape.impressions)
        self._newest: dict[int, tuple[Place, int, KeyBatch]] = {}
        self._parts = [self._order.parts(epoch) for epoch in range(epochs)]
        self._epochs = Epochs([max(part.n_lanes for part in parts) for parts in self._parts])

    @property
    def first_batch(self) -> np.ndarray:
        """The first batch of each epoch, and the number of batches at the end."""
        return self._epochs.first_batch

    def __len__(self) -> int:
        return len(self._epochs)

    def __getitem__(self, batch: int) -> KeyBatch:
        return self.lanes(batch, np.arange(self.shape.lanes))

    def lanes(self, batch: int, which: np.ndarray) -> KeyBatch:
        """The lanes `which` of a batch; only blocks of their parts are read."""
        epoch, number = self._epochs.place(batch)
        self._windows.room = KEPT * len(which)
        return side_by_side([self._lane(epoch, int(lane), number) for lane in which])

    def pieces(self) -> Iterator[GroupedImpressions]:
        """The blocks of the split."""
        return (self._block(number) for number in range(self.split.n_blocks))

    def _lane(self, epoch: int, number: int, lane: int) -> KeyBatch:
        """Lane number `lane` of a part."""
        part = self._parts[epoch][number]
        if lane >= part.n_lanes:
            return self._keys.empty(1)
        of_part, of_window = part.window_of(lane)
        place = Place(epoch, number, of_part)
        window = self._windows.get(place)
        if 2 * of_window >= window.arrangement.n_lanes:
            self._read_what_follows(place)
        several, one = divmod(of_window, self._together)
        return self._several_lanes(place, window, several).take(slice(one, one + 1))

    def _several_lanes(self, place: Place, window: Window, number: int) -> KeyBatch:
        """Lanes of a window that follow one another; the newest of each part are kept."""
        known = self._newest.get(place.part)
        if known is not None and known[:2] == (place, number):
            return known[2]
        lane_A = number * self._together + np.arange(self._together)
        keys = self._keys.lanes(window.groups, window.arrangement, lane_A)
        keys = dataclasses.replace(keys, impression_AB=window.numbers(keys.impression_AB))
        self._newest[place.part] = (place, number, keys)
        return keys

    def _read_what_follows(self, place: Place) -> None:
        epoch, part, window = place
        if window + 1 < len(self._parts[epoch][part].windows):
            self._windows.read_ahead(Place(epoch, part, window + 1))
        elif epoch + 1 < len(self._parts) and self._parts[epoch + 1][part].windows:
            self._windows.read_ahead(Place(epoch + 1, part, 0))

    def _read(self, place: Place) -> Window:
        runs = self._parts[place.epoch][place.part].windows[place.window]
        return read_window(self._block, self._order, place, runs)
