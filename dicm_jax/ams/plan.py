"""The host's share of a pull: which rows each requester wants, and where each one is used.

Everything that can be known before the step is worked out here, in the input pipeline's threads:
the unique rows of each requester's samples (de-duplication within a worker) and, for every place
where a key stands in the batch, the number of its row in that list. Servers do not appear: rows are
sorted, and servers own runs of rows, so the device finds each server's part by two binary searches.

Shape legend
    K   slots of a requester's list of unique rows
    C   rows that travel between one requester and one server in one round of an exchange
"""

import dataclasses
from typing import Any, no_type_check

import jax
import numpy as np

from dicm_jax.ams.keys import NO_ROW, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.errors import ConfigError, DataError

Leaf = Any
"""A NumPy array on the host, a JAX array in the step."""

UNUSED = np.iinfo(np.int32).max
"""Fills the unused end of a list of rows; larger than any row, so lists stay sorted."""


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Request:
    """What one requester asks of the servers, for one table and one embedding model.

    Attributes:
      rows_K: int32, the rows wanted, ascending, then `UNUSED`.
      rounds: int32 ``[1]``, rounds of exchange that this requester's rows need (a power of two; 1
        unless the capacity of a round is overflown).
      places: int32 ``[1]``, places of the batch where these rows stand: what would travel if rows
        were not asked for once each.
    """

    rows_K: Leaf
    rounds: Leaf
    places: Leaf


@dataclasses.dataclass(frozen=True)
class Capacity:
    """How much one exchange is compiled for.

    Attributes:
      unique: `K`, rows of one requester's list: a bound that no batch can exceed.
      per_server: `C`, rows between one requester and one server in one round.
      servers: servers that the rows are spread over.
      rows_per_server: rows that each of them owns.

    Raises:
      ConfigError: one of them is not at least 1.
    """

    unique: int
    per_server: int
    servers: int
    rows_per_server: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ConfigError(
                    f"an exchange with capacity {field.name}={value}: no row could ever travel;"
                    " every part of a capacity must be at least 1"
                )

    def window(self, rounds: int) -> int:
        """Rows of each server that one of `rounds` rounds may serve.

        A power of two over a power of two, so that the windows of ``2 R`` rounds lie inside those
        of ``R``.
        """
        return (1 << (self.rows_per_server - 1).bit_length()) // rounds

    @property
    def single_round(self) -> bool:
        """Whether one round always suffices, whatever distinct rows a batch holds."""
        return self.per_server >= min(self.unique, self.rows_per_server)


def plan(
    keys: np.ndarray, layout: RowLayout, capacity: Capacity, *, distinct: bool = True
) -> tuple[Request, np.ndarray]:
    """Plan one requester's pull.

    Args:
      keys: int ``[...]``, keys in any arrangement, or `keys.NO_ROW`, `keys.PADDING`.
      layout: where rows lie.
      capacity: what the exchange is compiled for.
      distinct: ask for each row once; otherwise once for each place where it stands.

    Returns:
      The request, and the slots: for each place of `keys`, the number of its row in the request's
      list, or ``K`` for `NO_ROW` and ``K + 1`` for `PADDING`.

    Raises:
      DataError: a key outside the table, or a list that no number of rounds can serve (only
        without `distinct`: more places of one row than travel in a round).
    """
    flat = keys.reshape(-1)
    real = flat >= 0
    _check_keys(flat, real, layout)
    wanted, inverse = _listed(layout.row(flat[real]), distinct)
    slots = np.where(flat == NO_ROW, capacity.unique, capacity.unique + 1).astype(np.int32)
    slots[real] = inverse
    rows_K = np.full(capacity.unique, UNUSED, np.int32)
    rows_K[: len(wanted)] = wanted
    rounds = rounds_needed(wanted, capacity)
    places = np.array([np.count_nonzero(real)], np.int32)
    return Request(rows_K, np.array([rounds], np.int32), places), slots.reshape(keys.shape)


def _listed(rows: np.ndarray, distinct: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows in ascending order, and where in that order each one stands."""
    if distinct:
        return np.unique(rows, return_inverse=True)
    order = np.argsort(rows, kind="stable")
    inverse = np.empty(len(rows), np.int64)
    inverse[order] = np.arange(len(rows))
    return rows[order], inverse


def _check_keys(flat: np.ndarray, real: np.ndarray, layout: RowLayout) -> None:
    wrong = (flat >= layout.n_keys) | (~real & (flat != NO_ROW) & (flat != PADDING))
    if wrong.any():
        raise DataError(
            f"key {int(flat[np.argmax(wrong)])} of a table with keys 0 to {layout.n_keys - 1}: the"
            " batch wants a row that no server owns. Look at the vocabulary sizes or the image keys"
            " of the log; an item without a row has key -1"
        )


def rounds_needed(rows: np.ndarray, capacity: Capacity) -> int:
    """Rounds of exchange in which `rows`, ascending, fit: a power of two.

    Round ``r`` serves one window of rows of every server (see `Capacity.window`). All requesters
    split alike, so a row is served in the same round whoever asks for it; windows of more rounds
    lie inside those of fewer, so what suffices for one requester still does when another needs
    more.
    """
    rounds = 1
    while not _fits(rows, capacity, rounds):
        if capacity.window(rounds) <= 1:
            raise DataError(
                f"one row stands more often in the samples of one device than the"
                f" {capacity.per_server} rows that travel to it in a round: set"
                " exchange.dedup_worker=true, or a larger exchange.capacity_factor"
            )
        rounds *= 2
    return rounds


def _fits(rows: np.ndarray, capacity: Capacity, rounds: int) -> bool:
    own = np.arange(capacity.servers)[:, None] * capacity.rows_per_server
    starts = np.minimum(np.arange(rounds) * capacity.window(rounds), capacity.rows_per_server)
    ends = np.append(starts[1:], capacity.rows_per_server)
    counts = np.searchsorted(rows, own + ends) - np.searchsorted(rows, own + starts)
    return bool(np.all(counts <= capacity.per_server))
