"""Rows dealt to partitions by a number of theirs, and put together again.

Shape legend
    E   rows     P   partitions
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

Columns = dict[str, np.ndarray]
"""Rows as columns of equal length."""

Parts = list[pa.RecordBatch]
"""Rows for each partition."""


def parted(rows: Mapping[str, np.ndarray], by: str, partitions: int) -> Parts:
    """Deals rows to partitions by ``rows[by] mod partitions``; within one they keep their order."""
    return dealt(pa.record_batch(dict(rows)), rows[by] % partitions, partitions)


def dealt(batch: pa.RecordBatch, partition_E: np.ndarray, partitions: int) -> Parts:
    """Deals rows to the partitions given for each; within one, rows keep their order."""
    order_E = np.argsort(partition_E, kind="stable")
    ends_P = np.cumsum(np.bincount(partition_E, minlength=partitions))
    together = batch.take(pa.array(order_E))
    return [
        together.slice(int(end - count), int(count))
        for end, count in zip(ends_P, np.diff(ends_P, prepend=0), strict=True)
    ]


def columns_of(parts: Sequence[pa.RecordBatch] | Iterable[pa.RecordBatch]) -> Columns | None:
    """All rows of some batches as NumPy columns; None where there is no batch."""
    table = joined(parts)
    if table is None:
        return None
    return {name: table[name].to_numpy() for name in table.column_names}


def joined(parts: Sequence[pa.RecordBatch] | Iterable[pa.RecordBatch]) -> pa.Table | None:
    """All rows of some batches, in their order; None where there is no batch."""
    batches = list(parts)
    return pa.Table.from_batches(batches).combine_chunks() if batches else None
