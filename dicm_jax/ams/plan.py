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
from collections.abc import Callable
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

_TABLE_UP_TO = 16
"""Rows of a table for each key of a batch up to which a look at all rows beats a sort."""

_Spread = Callable[[np.ndarray], np.ndarray]
"""From a number for each listed value to the numbers of the places where they stand."""


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
    _check_keys(flat, layout)
    rows = _rows_or_beyond(flat, layout)
    listed, spread = _distinct(rows, layout.n_rows + 2) if distinct else _all(rows)
    wanted = listed[: np.searchsorted(listed, layout.n_rows)]
    # Whatever lies behind the last row has no place in the list, but slots behind its end.
    slot_of = np.arange(len(listed), dtype=np.int32)
    slot_of[len(wanted) :] = listed[len(wanted) :] - layout.n_rows + capacity.unique
    slots = spread(slot_of)
    rows_K = np.full(capacity.unique, UNUSED, np.int32)
    rows_K[: len(wanted)] = wanted
    rounds = rounds_needed(wanted, capacity)
    places = np.array([np.count_nonzero(flat >= 0)], np.int32)
    return Request(rows_K, np.array([rounds], np.int32), places), slots.reshape(keys.shape)


def _check_keys(flat: np.ndarray, layout: RowLayout) -> None:
    if flat.size == 0 or (flat.min() >= min(NO_ROW, PADDING) and flat.max() < layout.n_keys):
        return
    wrong = (flat >= layout.n_keys) | (flat < min(NO_ROW, PADDING))
    raise DataError(
        f"key {int(flat[np.argmax(wrong)])} of a table with keys 0 to {layout.n_keys - 1}: the"
        " batch wants a row that no server owns. Look at the vocabulary sizes or the image keys"
        " of the log; an item without a row has key -1"
    )


def _rows_or_beyond(flat: np.ndarray, layout: RowLayout) -> np.ndarray:
    """The row of each key; behind the last row, in this order, `NO_ROW` and `PADDING`."""
    beyond = np.int32(layout.n_rows + NO_ROW) - flat.astype(np.int32, copy=False)
    return np.where(flat < 0, beyond, layout.row(flat))


def _distinct(values: np.ndarray, n_values: int) -> tuple[np.ndarray, _Spread]:
    """Distinct values in ascending order, and how to give each value what belongs to its like.

    As `numpy.unique`, several times as fast: a table of all values where that is not much larger
    than what is looked up, else a sort of values that carry their places along.

    Args:
      values: int32, from 0.
      n_values: what they are below.
    """
    if n_values <= _TABLE_UP_TO * len(values):
        return _distinct_by_table(values.astype(np.intp), n_values)
    carried = np.sort((values.astype(np.int64) << 32) | np.arange(len(values)))
    ascending, place = (carried >> 32).astype(np.int32), carried.astype(np.int32)  # the low half
    first = np.append(True, ascending[1:] != ascending[:-1])[: len(values)]

    def spread(numbers: np.ndarray) -> np.ndarray:
        spread_out = np.empty(len(values), numbers.dtype)
        spread_out[place] = numbers.take(np.cumsum(first) - 1)
        return spread_out

    return ascending[first], spread


def _distinct_by_table(values: np.ndarray, n_values: int) -> tuple[np.ndarray, _Spread]:
    seen = np.zeros(n_values, bool)
    seen[values] = True
    distinct = np.flatnonzero(seen)

    def spread(numbers: np.ndarray) -> np.ndarray:
        table = np.empty(n_values, numbers.dtype)
        table[distinct] = numbers
        return table.take(values)

    return distinct, spread


def _all(values: np.ndarray) -> tuple[np.ndarray, _Spread]:
    """Values in ascending order, equal ones as they stand, and how to put numbers of them back."""
    order = np.argsort(values, kind="stable")

    def spread(numbers: np.ndarray) -> np.ndarray:
        spread_out = np.empty(len(values), numbers.dtype)
        spread_out[order] = numbers
        return spread_out

    return values[order], spread


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
