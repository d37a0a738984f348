"""Where a key's row lies: 1,024 virtual shards, of which each server owns a run.

Key ``k`` of a table lies in virtual shard ``k mod 1024`` at position ``k div 1024`` (the routing of
Alibaba's XDL engine, which keeps neighbours apart and so spreads popular keys). The rows of a table
stand in the order of their shards, each shard padded to the same length; cutting that array into
equal runs gives every server whole shards. The array is therefore the same for any number of
servers, and a checkpoint needs no rearranging when that number changes.
"""

import dataclasses

import numpy as np

_SHARD_BITS = 10
VIRTUAL_SHARDS = 1 << _SHARD_BITS


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """The placement of `n_keys` keys.

    Attributes:
      n_keys: number of keys, ``0 .. n_keys - 1``.
    """

    n_keys: int

    @property
    def shard_rows(self) -> int:
        """Rows of each virtual shard, padding included."""
        return max(1, -(-self.n_keys // VIRTUAL_SHARDS))

    @property
    def n_rows(self) -> int:
        """Rows of the whole table, padding included."""
        return VIRTUAL_SHARDS * self.shard_rows

    def rows_per_server(self, servers: int) -> int:
        """Rows that each of `servers` servers owns."""
        return self.n_rows // servers

    def row(self, keys: np.ndarray) -> np.ndarray:
        """The row at which each key lies, int32.

        >>> RowLayout(2048).row(np.array([0, 1, 1024]))
        array([0, 2, 1], dtype=int32)
        """
        # By bits and in place: batches of keys are arranged all the time.
        rows = keys & (VIRTUAL_SHARDS - 1)
        rows *= self.shard_rows
        rows += keys >> _SHARD_BITS
        return rows.astype(np.int32, copy=False)

    def key(self, rows: np.ndarray) -> np.ndarray:
        """The key that lies at each row; padding rows give numbers of `n_keys` and above."""
        return rows // self.shard_rows + rows % self.shard_rows * VIRTUAL_SHARDS

    def arrange(self, array_by_key: np.ndarray) -> np.ndarray:
        """Reorder an array from key order to row order; padding rows are zero."""
        arranged = np.zeros((self.n_rows, *array_by_key.shape[1:]), array_by_key.dtype)
        arranged[self.row(np.arange(self.n_keys))] = array_by_key
        return arranged
