"""From the texts of a raw FuxiCTR set to keys, and from numbers to buckets.

A vocabulary is counted in the train file alone, over all columns that share it. As in FuxiCTR, key
0 is padding and the last key is *unknown*: what was not seen in train, or less than
``min_categr_count`` times. An encoded set has its keys already.

Shape legend
    E   rows of a file
"""

import dataclasses

import numpy as np
import pyarrow as pa

from dicm_jax.data.fuxictr.arrow import counts_of, equals, places_in
from dicm_jax.data.fuxictr.columns import Column
from dicm_jax.data.fuxictr.files import Table
from dicm_jax.data.fuxictr.layout import Layout


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The keys of one vocabulary.

    Attributes:
      size: number of keys.
      unknown: the key of what is not known.
      known: the texts with the keys 1, 2, ...; None in an encoded set, whose values are keys.
    """

    size: int
    unknown: int
    known: pa.Array | None

    def keys(self, values: pa.Array) -> np.ndarray:
        """The key of each value, int32."""
        if self.known is None:
            return values.to_numpy(zero_copy_only=False).astype(np.int32)
        place = places_in(self.known, values)
        return np.where(place < 0, self.unknown, place + 1).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Buckets of one numeric column, cut where the train file has its quantiles.

    Bucket 0 is the missing number; bucket ``k`` holds numbers from ``edges[k - 2]`` up to, but not
    including, ``edges[k - 1]``.
    """

    edges: np.ndarray

    @property
    def size(self) -> int:
        return len(self.edges) + 2

    def keys(self, numbers_E: np.ndarray) -> np.ndarray:
        """The bucket of each number, int32."""
        bucket_E = 1 + np.searchsorted(self.edges, numbers_E, side="right")
        return np.where(np.isnan(numbers_E), 0, bucket_E).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Keys:
    """How every column of a set is turned into keys; made by `keys_of`."""

    vocabularies: dict[str, Vocabulary]
    buckets: dict[str, Buckets]

    def of(self, column: Column, table: Table) -> np.ndarray:
        """The keys of a categorical or numeric column, int32 ``[E]``."""
        if column.kind == "numeric":
            return self.buckets[column.name].keys(table.numbers[column.name])
        return self.vocabularies[column.vocabulary].keys(table.texts[column.name])

    def size(self, column: Column) -> int:
        """Number of keys of the column's vocabulary."""
        if column.kind == "numeric":
            return self.buckets[column.name].size
        return self.vocabularies[column.vocabulary].size

    def unknown(self, column: Column) -> int:
        """The key of what is not known: of a number, the bucket of missing ones."""
        return 0 if column.kind == "numeric" else self.vocabularies[column.vocabulary].unknown


def keys_of(layout: Layout, train: Table, numeric_buckets: int) -> Keys:
    """Vocabularies and buckets from the train file; nothing of the test file is looked at."""
    fields = (*layout.user_fields, *layout.item_fields, *layout.context_fields)
    buckets = {
        column.name: _buckets(train.numbers[column.name], numeric_buckets)
        for column in fields
        if column.kind == "numeric"
    }
    names = {column.vocabulary for column in fields if column.kind == "categorical"}
    return Keys({name: _vocabulary(layout, train, name) for name in sorted(names)}, buckets)


def _vocabulary(layout: Layout, train: Table, name: str) -> Vocabulary:
    sharing = [c for c in layout.read if c.vocabulary == name and c.kind != "meta"]
    if layout.columns.encoded:
        size, unknown = sharing[0].size, sharing[0].unknown
        assert size is not None  # an encoded column has its size
        assert unknown is not None
        return Vocabulary(size, unknown, None)
    kept = [_frequent(column, _values(column, train)) for column in sharing]
    texts, counts = counts_of(pa.chunked_array([_values(column, train) for column in sharing]))
    table = pa.table({"text": texts, "count": counts})
    table = table.filter(pa.array(places_in(pa.concat_arrays(kept).unique(), texts) >= 0))
    # By falling count, then by text: the same keys whatever the order of the rows.
    table = table.sort_by([("count", "descending"), ("text", "ascending")])
    known = table["text"].combine_chunks()
    return Vocabulary(size=len(known) + 2, unknown=len(known) + 1, known=known)


def _values(column: Column, table: Table) -> pa.Array:
    if column.kind == "sequence":
        return table.sequences[column.name].values_Q
    return table.texts[column.name]


def _frequent(column: Column, values: pa.Array) -> pa.Array:
    """The texts that occur often enough in one column, the empty one left out."""
    texts, counts = counts_of(values)
    return texts.filter(pa.array((counts >= column.least) & ~equals(texts, column.missing)))


def _buckets(numbers_E: np.ndarray, most: int) -> Buckets:
    present = numbers_E[~np.isnan(numbers_E)]
    if not len(present):
        return Buckets(np.zeros(0))
    # An edge is a number of the column, so that equal numbers never differ by rounding.
    quantiles = np.quantile(present, np.arange(1, most) / most, method="higher")
    return Buckets(np.unique(quantiles))
