"""Rows of a log of dated events, such as purchases, as a reader hands them over.

Shape legend
    E   rows of one table
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclasses.dataclass(frozen=True)
class Events:
    """Rows of one table: customer as an index into `customers`, date, item index, label.

    `day_E` counts days since 1970-01-01. `click_E` is 1 for every purchase: it was taken.
    """

    customers: pa.Array
    customer_E: np.ndarray
    day_E: np.ndarray
    item_E: np.ndarray
    click_E: np.ndarray

    def before(self, day: int) -> "Events":
        """The rows dated strictly before `day`."""
        kept_E = self.day_E < day
        return dataclasses.replace(
            self,
            customer_E=self.customer_E[kept_E],
            day_E=self.day_E[kept_E],
            item_E=self.item_E[kept_E],
            click_E=self.click_E[kept_E],
        )


def texts_in(values: pa.Array, sought: pa.Array) -> np.ndarray:
    """Index in `values` of each text of `sought`, int32; -1 where it is not there."""
    options = pc.SetLookupOptions(value_set=values.cast(pa.string()))
    index = pc.call_function("index_in", [sought.cast(pa.string())], options)
    return pc.fill_null(index, -1).to_numpy(zero_copy_only=False).astype(np.int32)


def encode(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The distinct texts of a column and, for each row, the index of its text (-1: null)."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    coded = pa.concat_arrays(column.unify_dictionaries().chunks)
    indices = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    return coded.dictionary, indices.astype(np.int32, copy=False)
