"""Counts of keys and of lengths that grow as blocks come, exact and small."""

import dataclasses

import numpy as np

_FEW = 1 << 16


class KeySet:
    """Keys met so far, exact: a sorted list of them or a bit for each key, whichever is smaller.

    Keys are int32, at least 0; 2**31 of them take 256 MiB.

    Example:
      >>> keys = KeySet()
      >>> keys.add(np.array([7, 300, 7]))
      >>> len(keys), keys.has(np.array([7, 8, 10**6])).tolist()
      (2, [True, False, False])
    """

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.int32)
        self._new: list[np.ndarray] = []
        self._new_count = 0
        self._bits: np.ndarray | None = None

    def add(self, keys: np.ndarray) -> None:
        """Adds keys; one may come many times."""
        if self._bits is not None:
            self._bits = _with_bits(self._bits, keys)
            return
        self._new.append(np.unique(keys).astype(np.int32))
        self._new_count += len(self._new[-1])
        if self._new_count > max(len(self._sorted), _FEW):  # so that sorting takes little in all
            self._merge()

    def update(self, other: "KeySet") -> None:
        """Adds all keys of another set."""
        self._merge()
        other._merge()
        if other._bits is None:
            self.add(other._sorted)
        elif self._bits is None:
            self._bits = _with_bits(other._bits.copy(), self._sorted)
        else:
            shorter, longer = sorted((self._bits, other._bits), key=len)
            self._bits = longer.copy()
            self._bits[: len(shorter)] |= shorter

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Which of the keys have been added, bool."""
        self._merge()
        if self._bits is None:
            place = np.searchsorted(self._sorted, keys)
            inside = place < len(self._sorted)
            inside[inside] = self._sorted[place[inside]] == keys[inside]
            return inside
        inside = keys >> 3 < len(self._bits)
        octets = self._bits[np.where(inside, keys >> 3, 0)]
        return inside & (octets >> (keys & 7).astype(np.uint8) & 1).astype(bool)

    def __len__(self) -> int:
        self._merge()
        if self._bits is None:
            return len(self._sorted)
        return int(np.bitwise_count(self._bits).sum(dtype=np.int64))

    def _merge(self) -> None:
        if not self._new:
            return
        self._sorted = np.unique(np.concatenate([self._sorted, *self._new]))
        self._new, self._new_count = [], 0
        if self._sorted.nbytes > self._sorted.max(initial=0) // 8 + 1:
            self._bits = _with_bits(np.zeros(0, np.uint8), self._sorted)
            self._sorted = self._sorted[:0]


def _with_bits(bits: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Sets the bits of keys, in place unless there are too few."""
    octets = int(keys.max(initial=-1)) // 8 + 1
    if octets > len(bits):  # by half at least, so that growing takes little in all
        bits = np.pad(bits, (0, max(octets, len(bits) * 3 // 2) - len(bits)))
    np.bitwise_or.at(bits, keys >> 3, np.left_shift(1, keys & 7).astype(np.uint8))
    return bits


@dataclasses.dataclass(frozen=True)
class Spread:
    """How a count is spread over groups.

    Attributes:
      mean, median, most: of it.
      none_share: share of groups where it is 0.
    """

    mean: float
    median: float
    most: int
    none_share: float


class Histogram:
    """How often each small number came.

    Example:
      >>> lengths = Histogram()
      >>> lengths.add(np.array([0, 2, 2, 5]))
      >>> lengths.spread()
      Spread(mean=2.25, median=2.0, most=5, none_share=0.25)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)

    @property
    def counts(self) -> np.ndarray:
        """How often 0, 1, 2 ... came, int64; the last is not 0."""
        return np.trim_zeros(self._counts, "b")

    def add(self, values: np.ndarray) -> None:
        """Adds numbers of at least 0."""
        more = np.bincount(values)
        if len(more) > len(self._counts):
            self._counts = np.pad(self._counts, (0, len(more) - len(self._counts)))
        self._counts[: len(more)] += more

    def spread(self) -> Spread | None:
        """Mean, median and the rest; None where nothing came."""
        counts = self.counts
        total = int(counts.sum())
        if not total:
            return None
        ends = np.cumsum(counts)
        middle = np.searchsorted(ends, [(total - 1) // 2, total // 2], side="right")
        return Spread(
            mean=float(counts @ np.arange(len(counts)) / total),
            median=float(middle.mean()),
            most=len(counts) - 1,
            none_share=float(counts[0] / total),
        )
