"""Frozen content rows at the servers: every image's features, once, in the format chosen for rest.

Rows are standardised per dim by the statistics of the table when it is built, once, and not each
time they are read: a pass over a 4096-wide row costs as much as the compressor's first layer. The
statistics are kept, so that rows that come later are standardised the same way.

Shape legend
    V   rows of the table (padded)      N   rows as the source gives them      D   content width
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal, no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import table_sharding

Storage = Literal["float32", "bfloat16", "int8"]

_CHUNK = 4096  # rows handled at a time on the host: 64 MiB of float32 at width 4096


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Rows at rest, in row order (see `RowLayout`).

    Attributes:
      stored_VD: float32; uint16 that holds the bits of a bfloat16; or int8.
      scale_V: what an int8 row is multiplied with, float32; else None.
    """

    stored_VD: Array
    scale_V: Array | None


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContentRows:
    """Rows on their way into a compressor: features are ``value_UD * scale_U[:, None]``.

    The factor of a row is kept apart so that it can be applied after the first, wide product.
    """

    value_UD: Array
    scale_U: Float[Array, " U"] | None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each dim over the rows of a table, float32 ``[D]``."""

    mean_D: np.ndarray
    deviation_D: np.ndarray


def statistics(rows_ND: np.ndarray, scale_N: np.ndarray | None) -> Statistics:
    """Per-dim mean and deviation in float64, a chunk of rows at a time.

    Dims that never vary get deviation 1, so that they become 0 and not NaN.
    """
    count = len(rows_ND)
    sum_D = np.zeros(rows_ND.shape[1])
    for chunk_ND in _chunks(rows_ND, scale_N):
        sum_D += chunk_ND.sum(axis=0, dtype=np.float64)
    mean_D = sum_D / count
    square_D = np.zeros(rows_ND.shape[1])
    for chunk_ND in _chunks(rows_ND, scale_N):
        square_D += np.square(chunk_ND - mean_D.astype(np.float32)).sum(axis=0, dtype=np.float64)
    deviation_D = np.sqrt(square_D / count)
    deviation_D[deviation_D < 1e-6 * np.maximum(1.0, np.abs(mean_D))] = 1.0
    return Statistics(mean_D.astype(np.float32), deviation_D.astype(np.float32))


def build(
    rows_ND: np.ndarray,
    scale_N: np.ndarray | None,
    stats: Statistics,
    storage: Storage,
    mesh: Mesh,
) -> FeatureTable:
    """Standardise rows, bring them to their format for rest and lay them on the servers.

    Args:
      rows_ND: features, or integers that `scale_N` turns into features.
      scale_N: factor of each row, or None.
      stats: of the table that the rows belong to.
      storage: format at rest. int8 keeps a row in 1/4 of the bytes of float32, with one factor a
        row chosen so that its largest feature becomes 127.
      mesh: where the table will lie, split by rows along the servers.
    """
    layout = RowLayout(len(rows_ND))
    stored_VD = np.zeros((layout.n_rows, rows_ND.shape[1]), AT_REST[storage])
    scale_V = np.zeros(layout.n_rows, np.float32) if storage == "int8" else None
    done = 0
    for standard_ND in standardized_chunks(rows_ND, scale_N, stats):
        rows = layout.row(np.arange(done, done + len(standard_ND)))
        stored_VD[rows], scale_of_rows = to_rest(standard_ND, storage)
        if scale_V is not None:
            scale_V[rows] = scale_of_rows
        done += len(standard_ND)
    put = lambda array: jax.device_put(array, table_sharding(mesh))  # noqa: E731
    return FeatureTable(put(stored_VD), None if scale_V is None else put(scale_V))


def standardized_chunks(
    rows_ND: np.ndarray, scale_N: np.ndarray | None, stats: Statistics
) -> Iterator[np.ndarray]:
    """Standardised rows, float32, a chunk at a time, in order."""
    for chunk_ND in _chunks(rows_ND, scale_N):
        yield (chunk_ND - stats.mean_D) / stats.deviation_D


def gather(table: FeatureTable, rows_U: Int[Array, " U"]) -> ContentRows:
    """The stored rows `rows_U`, ready for a compressor; numbers past the table give its last row.

    (Filling such rows with zeros would cost a pass over all of them.)
    """
    value_UD = table.stored_VD.at[rows_U].get(mode="clip")
    if value_UD.dtype == jnp.uint16:
        # Stored as bits: a gather of bfloat16 in a loop makes XLA:CPU convert the whole table.
        value_UD = lax.bitcast_convert_type(value_UD, jnp.bfloat16)
    if table.scale_V is None:
        return ContentRows(value_UD, None)
    return ContentRows(value_UD, table.scale_V.at[rows_U].get(mode="clip"))


AT_REST = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}
"""Type of a stored value; a bfloat16 is kept as its bits."""


def _chunks(rows_ND: np.ndarray, scale_N: np.ndarray | None) -> Iterator[np.ndarray]:
    for start in range(0, len(rows_ND), _CHUNK):
        chunk_ND = rows_ND[start : start + _CHUNK].astype(np.float32)
        if scale_N is not None:
            chunk_ND *= scale_N[start : start + _CHUNK, None]
        yield chunk_ND


def to_rest(standard_ND: np.ndarray, storage: Storage) -> tuple[np.ndarray, np.ndarray | None]:
    """Standardised rows in their format for rest and, for int8, the factor of each row."""
    if storage == "float32":
        return standard_ND, None
    if storage == "bfloat16":
        return standard_ND.astype(jnp.bfloat16).view(np.uint16), None
    scale_N = np.maximum(np.abs(standard_ND).max(axis=1), 1e-12) / 127.0
    return np.rint(standard_ND / scale_N[:, None]).astype(np.int8), scale_N
