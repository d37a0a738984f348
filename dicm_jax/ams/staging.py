"""Tables in host memory: the rows of a batch are gathered on the host and sent along with it.

A *staged* table holds just the rows that a batch wants. At servers, each gets those that it owns,
of all lists that it answers, in ascending order; lists are renumbered to match, and from then on
the step sees a table like any other: numbers are the same as with the whole table in device memory.
On workers (strategy ``ps_worker``) each gets the rows of its list, in the order of the list.

Staged tables have a fixed length, measured on sampled batches. A batch that needs more gets twice
that length, or four times: the step is compiled once more then, and nothing is left out.

Every process plans the lists of all requesters of its servers, and gathers and sends rows for its
own devices only.

Shape legend
    K   slots of a list of rows     L   rows of a staged table     D   content width
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.plan import UNUSED, Capacity, Request, rounds_needed


@runtime_checkable
class HostTable(Protocol):
    """A feature table that stays on the host."""

    @property
    def layout(self) -> RowLayout:
        """Where its rows lie."""
        ...

    def gather(self, keys: np.ndarray, /) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows as stored, ``[n, D]``, and their factors, ``[n]``, or None."""
        ...


@dataclasses.dataclass(frozen=True)
class Staged:
    """What staging makes of the lists of one embedding model.

    Attributes:
      requests: by requester, renumbered where rows go to servers.
      tables: by own device of the servers' or workers' mesh, in the order of requesters.
    """

    requests: dict[int, Request]
    tables: dict[int, FeatureTable]


def at_servers(
    requests: Mapping[int, Request],
    own: Sequence[int],
    table: HostTable,
    capacity: Capacity,
    room: int,
) -> Staged:
    """The rows that each own server owns and its requesters want, and requests for them.

    Args:
      requests: of all requesters, by number; ``servers`` in a row share their servers.
      own: numbers of the servers' devices of this process.
      table: where rows come from.
      capacity: of the exchange over the whole table.
      room: rows of a staged table in the usual case.
    """
    servers = capacity.servers
    runs = {
        number: _runs(request.rows_K, servers, capacity.rows_per_server)
        for number, request in requests.items()
    }
    wanted = {}
    for first in range(0, len(requests), servers):
        for server in range(servers):
            of_row = [runs[first + requester][server] for requester in range(servers)]
            wanted[first + server] = np.unique(np.concatenate(of_row))
    room = _grown(room, max(len(rows) for rows in wanted.values()))
    staged_capacity = dataclasses.replace(capacity, rows_per_server=room)
    return Staged(
        {number: _renumbered(requests[number], runs[number], number, wanted, staged_capacity)
         for number in own},
        {number: _gathered(table, wanted[number], room) for number in own},
    )  # fmt: skip


def at_workers(
    requests: Mapping[int, Request], own: Sequence[int], table: HostTable, room: int
) -> Staged:
    """The rows of each own list, in its order. Requests stay as they are."""
    lists = {number: _used(request.rows_K) for number, request in requests.items()}
    room = _grown(room, max(len(rows) for rows in lists.values()))
    return Staged(
        {number: requests[number] for number in own},
        {number: _gathered(table, lists[number], room) for number in own},
    )


def _used(rows_K: np.ndarray) -> np.ndarray:
    return rows_K[: np.searchsorted(rows_K, UNUSED)]


def _runs(rows_K: np.ndarray, servers: int, rows_per_server: int) -> list[np.ndarray]:
    """The part of a list that each server owns."""
    rows = _used(rows_K)
    return np.split(rows, np.searchsorted(rows, np.arange(1, servers) * rows_per_server))


def _renumbered(
    request: Request,
    runs: list[np.ndarray],
    number: int,
    wanted: Mapping[int, np.ndarray],
    capacity: Capacity,
) -> Request:
    """A request for the rows of staged tables: a row's number is its place there."""
    first = number - number % capacity.servers
    places = [
        server * capacity.rows_per_server + np.searchsorted(wanted[first + server], run)
        for server, run in enumerate(runs)
    ]
    rows = np.concatenate(places).astype(np.int32)
    rows_K = np.full_like(request.rows_K, UNUSED)
    rows_K[: len(rows)] = rows
    rounds = np.array([rounds_needed(rows, capacity)], np.int32)
    return Request(rows_K, rounds, request.places)


def _grown(room: int, needed: int) -> int:
    while room < needed:
        room *= 2
    return room


def _gathered(table: HostTable, rows: np.ndarray, room: int) -> FeatureTable:
    stored_ND, scale_N = table.gather(table.layout.key(rows))
    stored_LD = np.zeros((room, stored_ND.shape[1]), stored_ND.dtype)
    stored_LD[: len(rows)] = stored_ND
    staged: Any = FeatureTable  # of arrays that are still on the host
    if scale_N is None:
        return staged(stored_LD, None)
    scale_L = np.zeros(room, np.float32)
    scale_L[: len(rows)] = scale_N
    return staged(stored_LD, scale_L)
