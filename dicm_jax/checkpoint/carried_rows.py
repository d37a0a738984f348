"""Rows of an ID table that find their places in the table of another log.

Yesterday's item has a row; today its key may be another, new items have come and old ones gone.
Rows are matched by ID where both logs tell the IDs of a vocabulary, else by key, which then must be
the same keys.

Shape legend
    V   rows of the new table     K   keys of a vocabulary     E   embedding width
    U   rows of a part of the new table
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicm_jax.checkpoint.known_ids import Keys
from dicm_jax.checkpoint.surgery.blocks import BlockArray
from dicm_jax.errors import CheckpointError

_BLOCK_BYTES = 64 * 2**20
"""Of the old table read at a time."""
NEW = -1
"""In the place of an old row: there is none."""


@dataclasses.dataclass(frozen=True)
class Carried:
    """How many rows of a vocabulary are carried over.

    Attributes:
      kept: IDs that both logs have.
      new: IDs of the new log alone, whose rows start afresh.
      gone: IDs of the old log alone, whose rows are left behind.
    """

    kept: int
    new: int
    gone: int


def match(old: Keys, new: Keys, where: str) -> tuple[np.ndarray, dict[str, Carried]]:
    """The old row of each new row, int64 ``[V]``, `NEW` where there is none; and the counts.

    Args:
      old, new: the vocabularies of both logs.
      where: the old ones come from, for messages.

    Raises:
      CheckpointError: a vocabulary of other keys, whose IDs are not known on both sides.
    """
    row_V = np.full(new.layout.n_rows, NEW, np.int64)
    counts = {}
    for name, size in new.sizes.items():
        key_K = _old_keys(name, old, new, where)
        known_K = key_K >= 0
        places = new.layout.row(new.start(name) + np.flatnonzero(known_K))
        if known_K.any():
            row_V[places] = old.layout.row(old.start(name) + key_K[known_K])
        kept = int(known_K.sum())
        counts[name] = Carried(kept, size - kept, old.sizes.get(name, 0) - kept)
    gone = old.sizes.keys() - new.sizes.keys()
    return row_V, counts | {name: Carried(0, 0, old.sizes[name]) for name in sorted(gone)}


def _old_keys(name: str, old: Keys, new: Keys, where: str) -> np.ndarray:
    """The old key of each new key of a vocabulary, -1 where it is new, int64 ``[K]``."""
    size = new.sizes[name]
    if name not in old.sizes:
        return np.full(size, NEW, np.int64)
    if old.sizes[name] == size and old.crcs.get(name) == new.crcs.get(name):
        return np.arange(size)
    if name not in old.crcs or name not in new.crcs:
        found = f"{name} was {old.sizes[name]}, is {size}"
        if old.sizes[name] == size:
            found = f"{name}: {size} keys whose IDs one log tells and the other does not"
        raise CheckpointError(
            f"ID rows cannot be taken over from {where}: they are those of other vocabularies"
            f" ({found}), and which row is whose is not known, since the IDs are not; prepare both"
            " logs with python -m dicm_jax.prepare, which keeps them, or set"
            " checkpoint.warm_parts='partial'"
        )
    lookup = pc.SetLookupOptions(value_set=old.ids(name).cast(pa.large_string()))
    found = pc.call_function("index_in", [new.ids(name).cast(pa.large_string())], lookup)
    return pc.fill_null(found, NEW).to_numpy(zero_copy_only=False).astype(np.int64)


def carry(old: BlockArray, fresh: jax.Array, row_V: np.ndarray) -> jax.Array:
    """The new table: old rows where there are any, else those of `fresh`; laid out like `fresh`.

    The old table is read in pieces, and each process reads what its own devices need.

    Args:
      old: the old table on disk (`surgery.stored.open_arrays`).
      fresh: the new table as it starts, ``[V, E]``.
      row_V: as `match` made it.
    """
    parts: dict[tuple[int, int], np.ndarray] = {}
    for shard in fresh.addressable_shards:
        first, end = _ends(shard.index, len(fresh))
        if (first, end) not in parts:
            parts[first, end] = _filled(old, np.array(shard.data), row_V[first:end])
    return jax.make_array_from_callback(
        fresh.shape, fresh.sharding, lambda index: parts[_ends(index, len(fresh))]
    )


def _ends(index: Any, rows: int) -> tuple[int, int]:
    first, end, _ = index[0].indices(rows)
    return first, end


def _filled(old: BlockArray, into_UE: np.ndarray, row_U: np.ndarray) -> np.ndarray:
    order_U = np.argsort(row_U, kind="stable")
    sorted_U = row_U[order_U]
    block = max(1, _BLOCK_BYTES // (old.shape[1] * old.dtype.itemsize))
    for first in range(0, old.shape[0], block):
        low, high = np.searchsorted(sorted_U, (first, first + block))
        if low < high:
            rows_UE = old.read((slice(first, min(first + block, old.shape[0])), slice(None)))
            into_UE[order_U[low:high]] = rows_UE[sorted_U[low:high] - first]
    return into_UE
