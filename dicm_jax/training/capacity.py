"""How much room the exchanges get: bounds that cannot be exceeded, and a measured usual case."""

import dataclasses

import numpy as np

from dicm_jax.ams.mesh import Roles, shape_of
from dicm_jax.ams.plan import UNUSED, Capacity
from dicm_jax.data.batches import Source
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.training.batch import Capacities, ContentInput
from dicm_jax.training.planning import Layouts, PlannedList, Planner

SAMPLED_BATCHES = 12
_ROUND_LISTS_TO = 128
_ROUND_ROOM_TO = 8
"""Rows; small, since there is such a room for every pair of devices."""


@dataclasses.dataclass(frozen=True)
class Room:
    """What was measured on a sample of batches.

    Attributes:
      capacities: of the exchanges.
      staged_at_server, staged_at_worker: rows of a staged table, by embedding model.
    """

    capacities: Capacities
    staged_at_server: dict[str, int]
    staged_at_worker: dict[str, int]


def measured_room(
    source: Source,
    roles: Roles,
    layouts: Layouts,
    inputs: tuple[ContentInput, ...],
    factor: float,
    *,
    distinct: bool = True,
) -> Room:
    """Room from batches spread over the training set.

    Room for the rows of a list is the bound that the batch's shape sets. Room for the rows between
    one requester and one server is `factor` times the most seen in the sampled batches: a batch
    that needs more is served in more rounds.

    Args:
      source: the batches to sample from; the same ones each time, so that a run that goes on has
        the program of the run that was stopped.
      roles: servers and workers.
      layouts: where rows lie.
      inputs: where the model sees content.
      factor: at least 1.
      distinct: whether lists hold each row once.
    """
    numbers = np.unique(np.linspace(0, len(source) - 1, SAMPLED_BATCHES).astype(int))
    samples = [source[int(n)] for n in numbers]
    bounds = _bounds(samples[0], roles, layouts, inputs, distinct)
    planner = Planner(roles.requesters, roles.workers_per_list, bounds, layouts, inputs, distinct)
    plans = [planner.plan(keys, range(roles.requesters)) for keys in samples]
    usual = lambda most: _round_up(int(most * factor), _ROUND_LISTS_TO)  # noqa: E731
    content, at_server, at_worker = {}, {}, {}
    for model, bound in bounds.content.items():
        lists = [_lists(parts, model) for parts in plans]
        content[model] = _usual(bound, lists, factor)
        at_server[model] = usual(max(_most_at_a_server(rows_RK, bound) for rows_RK in lists))
        at_worker[model] = usual(max(int((r != UNUSED).sum(axis=1).max()) for r in lists))
    ids = _usual(bounds.ids, [_lists(parts, None) for parts in plans], factor)
    return Room(Capacities(ids, content), at_server, at_worker)


def _bounds(
    keys: KeyBatch,
    roles: Roles,
    layouts: Layouts,
    inputs: tuple[ContentInput, ...],
    distinct: bool,
) -> Capacities:
    id_places = keys.user_AGF.size + keys.impression_ABF.size + keys.behavior_AGLF.size
    places = dict.fromkeys((seen.model for seen in inputs), 0)
    for seen in inputs:
        of_side = keys.ad_AB if seen.side == "ad" else keys.behavior_content_AGL
        places[seen.model] += of_side[seen.content].size
    servers = shape_of(roles.servers).server

    def bound(places: int, n_rows: int) -> Capacity:
        unique = places // roles.requesters
        unique = _round_up(min(unique, n_rows) if distinct else unique, _ROUND_LISTS_TO)
        return Capacity(unique, unique, servers, n_rows // servers)

    return Capacities(
        ids=bound(id_places, layouts.ids.n_rows),
        content={
            model: bound(count, layouts.content[model].n_rows) for model, count in places.items()
        },
    )


def _round_up(rows: int, to: int) -> int:
    return -(-max(1, rows) // to) * to


def _lists(parts: list[PlannedList], model: str | None) -> np.ndarray:
    """Every requester's rows of one table, ``[requesters, K]``."""
    requests = [
        part.servers.ids if model is None else part.servers.content[model] for part in parts
    ]
    return np.stack([request.rows_K for request in requests])


def _usual(bound: Capacity, lists: list[np.ndarray], factor: float) -> Capacity:
    most = max(int(_per_server(rows_RK, bound).max()) for rows_RK in lists)
    room = min(_round_up(int(most * factor), _ROUND_ROOM_TO), bound.unique)
    return dataclasses.replace(bound, per_server=room)


def _per_server(rows_RK: np.ndarray, bound: Capacity) -> np.ndarray:
    """Rows that each requester wants from each server, ``[requesters, servers]``."""
    ends = np.arange(bound.servers + 1) * bound.rows_per_server
    counts = [np.diff(np.searchsorted(rows_K, ends)) for rows_K in rows_RK]
    return np.stack(counts)


def _most_at_a_server(rows_RK: np.ndarray, bound: Capacity) -> int:
    """The most distinct rows that one server is asked for by those it answers."""
    most = 0
    for first in range(0, len(rows_RK), bound.servers):
        rows = np.unique(rows_RK[first : first + bound.servers])
        most = max(most, int(_per_server(rows[None], bound).max()))
    return most
