"""The host's share of a pull: which rows each device wants, and where each one is used.

Everything that can be known before the step is worked out here, in the input pipeline's threads:
the unique rows of each device's samples (worker-side de-duplication) and, for every place where a
key stands in the batch, the number of its row in that list. Servers do not appear: rows are sorted,
and servers own runs of rows, so the device finds each server's part by two binary searches.

Shape legend
    N   devices fed by this host      K   slots of a device's list of unique rows
    C   rows that travel between one worker and one server in one round of an exchange
"""

import dataclasses
from typing import Any, no_type_check

import jax
import numpy as np

from dicm_jax.ams.keys import NO_ROW
from dicm_jax.ams.layout import RowLayout

Leaf = Any
"""A NumPy array on the host, a JAX array in the step."""

UNUSED = np.iinfo(np.int32).max
"""Fills the unused end of a list of rows; larger than any row, so lists stay sorted."""


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Request:
    """What one device asks of the servers, for one table and one embedding model.

    Attributes:
      rows_K: int32, the unique rows wanted, ascending, then `UNUSED`.
      rounds: int32 ``[1]``, rounds of exchange that this device's rows need (a power of two; 1
        unless the capacity of a round is overflown).
    """

    rows_K: Leaf
    rounds: Leaf


@dataclasses.dataclass(frozen=True)
class Capacity:
    """How much one exchange is compiled for.

    Attributes:
      unique: `K`, unique rows of one device: a bound that no batch can exceed.
      per_server: `C`, rows between one device and one server in one round.
      servers: servers that the rows are spread over.
      layout: where rows lie.
    """

    unique: int
    per_server: int
    servers: int
    layout: RowLayout

    @property
    def rows_per_server(self) -> int:
        return self.layout.rows_per_server(self.servers)

    def window(self, rounds: int) -> int:
        """Rows of each server that one of `rounds` rounds may serve.

        A power of two over a power of two, so that the windows of ``2 R`` rounds lie inside those
        of ``R``.
        """
        return (1 << (self.rows_per_server - 1).bit_length()) // rounds

    @property
    def single_round(self) -> bool:
        """Whether one round always suffices, whatever the batch holds."""
        return self.per_server >= min(self.unique, self.rows_per_server)


def plan(keys: np.ndarray, capacity: Capacity) -> tuple[np.ndarray, np.ndarray, int]:
    """Plan one device's pull.

    Args:
      keys: int ``[...]``, keys in any arrangement, or `keys.NO_ROW`, `keys.PADDING`.
      capacity: what the exchange is compiled for.

    Returns:
      ``(rows_K, slots, rounds)``: the unique rows, ascending; for each place of `keys`, the number
      of its row in ``rows_K``, or ``K`` for `NO_ROW` and ``K + 1`` for `PADDING`; and the rounds
      that the exchange needs.
    """
    flat = keys.reshape(-1)
    real = flat >= 0
    unique_rows, inverse = np.unique(capacity.layout.row(flat[real]), return_inverse=True)
    slots = np.where(flat == NO_ROW, capacity.unique, capacity.unique + 1).astype(np.int32)
    slots[real] = inverse
    rows_K = np.full(capacity.unique, UNUSED, np.int32)
    rows_K[: len(unique_rows)] = unique_rows
    return rows_K, slots.reshape(keys.shape), rounds_needed(unique_rows, capacity)


def rounds_needed(unique_rows: np.ndarray, capacity: Capacity) -> int:
    """Rounds of exchange in which `unique_rows` fit, a power of two.

    Round ``r`` serves one window of rows of every server (see `Capacity.window`). All devices split
    alike, so a row is served in the same round whoever asks for it; windows of more rounds lie
    inside those of fewer, so what suffices for one device still does when another needs more.
    """
    rounds = 1
    while not _fits(unique_rows, capacity, rounds):
        rounds *= 2
    return rounds


def _fits(unique_rows: np.ndarray, capacity: Capacity, rounds: int) -> bool:
    own = np.arange(capacity.servers)[:, None] * capacity.rows_per_server
    starts = np.minimum(np.arange(rounds) * capacity.window(rounds), capacity.rows_per_server)
    ends = np.append(starts[1:], capacity.rows_per_server)
    counts = np.searchsorted(unique_rows, own + ends) - np.searchsorted(unique_rows, own + starts)
    return bool(np.all(counts <= capacity.per_server))
