"""From values of an ID column to keys: by a vocabulary, or by a hash.

Shape legend
    E   rows of a chunk     U   distinct values of a chunk     K   keys of a vocabulary
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FIRST = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Keys are the places of values; a value that is not there has key -1.

    Attributes:
      values: text, each once.
    """

    values: pa.Array

    @property
    def size(self) -> int:
        return len(self.values)

    def keys(self, values_U: pa.Array) -> np.ndarray:
        """Key of each text, int32 ``[U]``; -1 where it is null."""
        if not self.size:
            return np.full(len(values_U), -1, np.int32)
        values_U = values_U.cast(pa.large_string())
        sorted_K, key_K = self._by_hash
        hash_U = hashed(values_U)
        order_U = np.argsort(hash_U)  # neighbors are found several times faster
        place_U = np.empty(len(hash_U), np.int64)
        place_U[order_U] = np.searchsorted(sorted_K, hash_U[order_U])
        place_U = np.minimum(place_U, self.size - 1)
        alike_U = sorted_K[place_U] == hash_U
        key_U = np.where(alike_U, key_K[place_U], np.int32(-1))
        doubtful = np.flatnonzero(alike_U & ~self._is(key_U, values_U))
        if len(doubtful):  # nulls, and texts that share a hash
            key_U[doubtful] = self._searched(values_U.take(pa.array(doubtful)))
        return key_U

    @functools.cached_property
    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of all values, sorted, and their keys: found once, not for every chunk."""
        hash_K = hashed(self.values)
        key_K = np.argsort(hash_K)
        return hash_K[key_K], key_K.astype(np.int32)

    def _is(self, key_U: np.ndarray, values_U: pa.Array) -> np.ndarray:
        """Whether keys, of which some are -1, are those of the texts."""
        known = self.values.take(pa.array(np.maximum(key_U, 0)))
        same_U = pc.call_function("equal", [known.cast(pa.large_string()), values_U])
        return pc.fill_null(same_U, False).to_numpy(zero_copy_only=False)

    def _searched(self, values_U: pa.Array) -> np.ndarray:
        options = pc.SetLookupOptions(value_set=self.values.cast(pa.large_string()))
        found = pc.call_function("index_in", [values_U], options)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Hashed:
    """Keys are hashes of the values; two values may share one.

    Attributes:
      size: number of keys.
    """

    size: int

    def keys(self, values_U: pa.Array) -> np.ndarray:
        """Key of each text, int32 ``[U]``."""
        return (hashed(values_U) % np.uint64(self.size)).astype(np.int32)


Encoding = Vocabulary | Hashed


def encoded(column: pa.Array, encoding: Encoding) -> np.ndarray:
    """Key of every text of a column, int32 ``[E]``; a missing one is the empty text."""
    coded = pc.fill_null(column, "").dictionary_encode()
    keys_U = encoding.keys(coded.dictionary)
    return keys_U[coded.indices.to_numpy(zero_copy_only=False)]


def merged(parts: Sequence[pa.Array]) -> pa.Array:
    """The distinct texts of several arrays, sorted by their bytes."""
    distinct = pa.concat_arrays([part.cast(pa.large_string()) for part in parts]).unique()
    return distinct.sort()


def expected_collisions(values: int, keys: int) -> float:
    """The share of values that a uniform hash gives a key that another value has too.

    >>> round(expected_collisions(1_000_000, 2**24), 4)
    0.0579
    """
    return -float(np.expm1((values - 1) * np.log1p(-1.0 / keys))) if values > 1 else 0.0


def hashed(values_U: pa.Array) -> np.ndarray:
    """A 64-bit hash of each text, uint64 ``[U]``: the same on every machine, in every version.

    Eight bytes of UTF-8 at a time are mixed in with the finaliser of SplitMix64
    (Steele, Lea, Flood, 2014), the length first.
    """
    values_U = values_U.cast(pa.large_string())
    offsets = np.frombuffer(values_U.buffers()[1], np.int64)[
        values_U.offset : values_U.offset + len(values_U) + 1
    ]
    lengths_U = np.diff(offsets)
    data = np.frombuffer(values_U.buffers()[2] or b"", np.uint8)
    hash_U = _mixed(_FIRST + lengths_U.astype(np.uint64))
    for start in range(0, int(lengths_U.max(initial=0)), 8):
        longer = np.flatnonzero(lengths_U > start)
        place = offsets[longer, None] + start + np.arange(8)
        inside = place < offsets[longer + 1, None]
        octets = np.where(inside, data[np.minimum(place, len(data) - 1)], 0).astype(np.uint8)
        words = octets.view("<u8")[:, 0].astype(np.uint64)
        hash_U[longer] = _mixed(hash_U[longer] ^ words)
    return hash_U


def _mixed(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        value = value + _FIRST
        value = (value ^ (value >> np.uint64(30))) * _MIX[0]
        value = (value ^ (value >> np.uint64(27))) * _MIX[1]
        return value ^ (value >> np.uint64(31))
