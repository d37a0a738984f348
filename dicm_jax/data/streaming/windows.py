"""Windows of a streamed split in memory: read once, checked as they are read, the next one ahead.

Shape legend
    G   groups     R   runs of a window
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np

from dicm_jax.data.groups import cut, joined
from dicm_jax.data.lanes import Arrangement
from dicm_jax.data.schema import ClickLog, GroupedImpressions, StreamedGroups
from dicm_jax.data.streaming.parts import Order, Place, Run
from dicm_jax.data.validate import check_train
from dicm_jax.errors import DataError

KEPT = 2
"""Windows kept for each lane that is asked for: the one it is in, and the one before or after."""


@dataclasses.dataclass(frozen=True)
class Window:
    """The groups of a window.

    Attributes:
      groups: in the order of its runs.
      arrangement: their order, and their lanes.
      first_R: where the impressions of each run begin in `groups`.
      shift_R: from there to their numbers in the split.
    """

    groups: GroupedImpressions
    arrangement: Arrangement
    first_R: np.ndarray
    shift_R: np.ndarray

    def numbers(self, impressions: np.ndarray) -> np.ndarray:
        """Numbers in the split of impressions of `groups`; -1 stays -1."""
        run = np.searchsorted(self.first_R, impressions, side="right") - 1
        return np.where(impressions < 0, -1, impressions + self.shift_R[run])


class BlockReader:
    """Blocks of a split, each checked when it is read.

    Args:
      log: whose train split they are; what its schema states is what is checked.
      split: where they lie.
    """

    def __init__(self, log: ClickLog, split: StreamedGroups):
        self._log = log
        self._split = split

    def __call__(self, number: int) -> GroupedImpressions:
        """The block of the given number.

        Raises:
          DataError: it cannot be read, or does not hold what it should.
        """
        block, sizes_G = self._split.read(number), self._split.sizes(number)
        where = f"{self._split.where}, record {number}"
        found_G = np.diff(block.impression_offsets)
        if not np.array_equal(found_G, sizes_G):
            raise DataError(
                f"{where}: {len(found_G)} groups of {found_G.sum()} impressions, where"
                f" {len(sizes_G)} of {sizes_G.sum()} are recorded, or in another order: bring the"
                " set's files back from one copy, or prepare it again"
            )
        check_train(self._log, block, where)
        return block


def read_window(
    read: Callable[[int], GroupedImpressions], order: Order, place: Place, runs: list[Run]
) -> Window:
    """Read the blocks of a window and put their groups together."""
    parts = [cut(read(run.block), run.first, run.end) for run in runs]
    first_R = np.cumsum([0, *(part.n_impressions for part in parts[:-1])])
    number_R = [
        order.split.first_impression_K[run.block]
        + order.split.sizes(run.block)[: run.first].sum(dtype=np.int64)
        for run in runs
    ]
    return Window(
        joined(parts), order.arrangement(place, runs), first_R, np.array(number_R) - first_R
    )


class WindowCache:
    """Keeps the windows that were asked for last, and reads each once, whoever asks.

    Args:
      read: reads a window.

    Attributes:
      room: windows kept.
    """

    def __init__(self, read: Callable[[Place], Window]):
        self._read = read
        self.room = KEPT
        self._kept: OrderedDict[Place, Future[Window]] = OrderedDict()
        self._lock = Lock()
        self._ahead = ThreadPoolExecutor(1, "window")

    def get(self, place: Place) -> Window:
        """The window that stands there.

        Raises:
          DataError: a block of it cannot be used.
        """
        window, is_new = self._entry(place)
        if is_new:
            self._fill(place, window)
        return window.result()

    def read_ahead(self, place: Place) -> None:
        """Have a window read in the background; what goes wrong is told to who gets it."""
        window, is_new = self._entry(place)
        if is_new:
            self._ahead.submit(self._fill, place, window)

    def _entry(self, place: Place) -> tuple["Future[Window]", bool]:
        with self._lock:
            is_new = place not in self._kept
            window = self._kept.setdefault(place, Future())
            self._kept.move_to_end(place)
            while len(self._kept) > self.room:
                self._kept.popitem(last=False)
        return window, is_new

    def _fill(self, place: Place, window: "Future[Window]") -> None:
        try:
            window.set_result(self._read(place))
        except BaseException as error:
            window.set_exception(error)
