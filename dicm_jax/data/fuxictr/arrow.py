"""Arrow's compute functions that the FuxiCTR reader needs, from Arrow columns to NumPy.

Shape legend
    Q   values of a column
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def places_in(known: pa.Array, values_Q: pa.Array) -> np.ndarray:
    """Index in `known` of each value, int32; -1 where it is not there."""
    options = pc.SetLookupOptions(value_set=known)
    place_Q = pc.call_function("index_in", [values_Q], options)
    return pc.fill_null(place_Q, -1).to_numpy(zero_copy_only=False).astype(np.int32)


def equals(values_Q: pa.Array, value: Any) -> np.ndarray:
    """Where a column has `value`; a null has none."""
    equal_Q = pc.call_function("equal", [values_Q, pa.scalar(value, values_Q.type)])
    return pc.fill_null(equal_Q, False).to_numpy(zero_copy_only=False)


def lengths_of(lists_Q: pa.Array) -> np.ndarray:
    """Number of values of each list; 0 for a null."""
    length_Q = pc.call_function("list_value_length", [lists_Q])
    return pc.fill_null(length_Q, 0).to_numpy(zero_copy_only=False)


def parts_of(texts_Q: pa.Array, splitter: str) -> pa.Array:
    """Each text cut into a list of its parts."""
    return pc.call_function("split_pattern", [texts_Q], pc.SplitPatternOptions(splitter))


def counts_of(values_Q: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The distinct values, and how often each occurs."""
    counted = values_Q.value_counts()
    return counted.field("values"), counted.field("counts").to_numpy()
