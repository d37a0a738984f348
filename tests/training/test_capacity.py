"""Capacities: bounds that no batch exceeds, and room for what the sampled batches need.

Shape legend
    R   requesters    K   slots of a list of unique rows
"""

import dataclasses

import numpy as np
import pytest

from dicm_jax.ams.mesh import Roles, shape_of
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.training import capacity as capacity_module
from dicm_jax.training.batch import IDS, Capacities
from dicm_jax.training.capacity import Room, measured_room
from dicm_jax.training.model import ModelSpec
from dicm_jax.training.planning import Planner
from tests import small_world

SPEC = small_world.model_spec()
SPECS = {
    "two": SPEC,
    "shared": dataclasses.replace(SPEC, share_compressor=True),
    "ad": small_world.model_spec(images="ad"),
}
ROLES = {
    "1x1": small_world.roles_of(1, 1, "colocated"),
    "1x8": small_world.roles_of(1, 8, "colocated"),
    "2x4": small_world.roles_of(2, 4, "colocated"),
    "dedicated 2x2": small_world.roles_of(2, 2, "dedicated"),
}


@pytest.fixture(autouse=True)
def fine_rounding(monkeypatch):
    """Whole steps of rows would hide everything at this size."""
    monkeypatch.setattr(capacity_module, "_ROUND_LISTS_TO", 1)
    monkeypatch.setattr(capacity_module, "_ROUND_ROOM_TO", 1)


def source(**changes) -> BatchSource:
    log = dataclasses.replace(small_world.log(), **changes)
    return BatchSource(log, log.train, small_world.SHAPE, epochs=2, seed=0)


def measured(
    batched: BatchSource,
    roles: Roles,
    factor: float,
    spec: ModelSpec = SPEC,
    *,
    distinct: bool = True,
) -> Room:
    layouts = small_world.layouts_for(batched, spec)
    return measured_room(batched, roles, layouts, spec.inputs, factor, distinct=distinct)


def lists(
    capacities: Capacities,
    keys: KeyBatch,
    roles: Roles,
    spec: ModelSpec = SPEC,
    *,
    distinct: bool = True,
) -> dict[str, list[Request]]:
    """The requests of a batch by list, one for each requester."""
    layouts = small_world.layouts_for(source(), spec)
    planner = Planner(
        roles.requesters, roles.workers_per_list, capacities, layouts, spec.inputs, distinct
    )
    parts = planner.plan(keys, range(roles.requesters))
    return {name: [part.lists[name] for part in parts] for name in parts[0].lists}


def capacity_of(capacities: Capacities, name: str) -> Capacity:
    return capacities.ids if name == IDS else capacities.content[name]


def sampled(batched: BatchSource) -> list[KeyBatch]:
    numbers = np.linspace(0, len(batched) - 1, capacity_module.SAMPLED_BATCHES).astype(int)
    return [batched[int(n)] for n in numbers]


def most_from_one_server(requests: list[Request], capacity: Capacity) -> int:
    counts = [
        np.bincount(r.rows_K[r.rows_K != UNUSED] // capacity.rows_per_server, minlength=1).max()
        for r in requests
    ]
    return int(max(counts))


@pytest.mark.parametrize("on", ROLES)
@pytest.mark.parametrize("model", SPECS)
def test_room_is_what_the_most_demanding_batch_needs_times_the_factor(on, model):
    batched, roles, spec = source(), ROLES[on], SPECS[model]
    ones, twos = (measured(batched, roles, factor, spec).capacities for factor in (1.0, 2.0))
    assert ones.content.keys() == set(spec.tables)
    of_batches = [lists(ones, keys, roles, spec) for keys in sampled(batched)]
    for name in of_batches[0]:
        capacity, wider = capacity_of(ones, name), capacity_of(twos, name)
        most = max(most_from_one_server(of_batch[name], capacity) for of_batch in of_batches)
        rounds = [int(r.rounds[0]) for of_batch in of_batches for r in of_batch[name]]
        assert capacity.per_server == most
        assert max(rounds) == 1
        assert wider.per_server == min(2 * most, wider.unique)
        assert capacity.servers == shape_of(roles.servers).server


@pytest.mark.parametrize("on", ROLES)
@pytest.mark.parametrize("distinct", [True, False])
def test_no_batch_has_more_rows_than_the_bound(on, distinct):
    """Planning would fail to write them into the list."""
    batched, roles = source(), ROLES[on]
    capacities = measured(batched, roles, 1.0, distinct=distinct).capacities
    for n in range(len(batched)):
        requests = lists(capacities, batched[n], roles, distinct=distinct)
        for name, of_list in requests.items():
            for request in of_list:
                assert request.rows_K.shape == (capacity_of(capacities, name).unique,)
                assert (np.diff(request.rows_K.astype(int)) >= 0).all()


@pytest.mark.parametrize("on", ROLES)
def test_staged_tables_have_room_for_the_most_that_was_seen(on):
    """At a server: distinct rows of all lists that it answers. At a worker: rows of its list."""
    batched, roles = source(), ROLES[on]
    room = measured(batched, roles, 1.0)
    of_batches = [lists(room.capacities, keys, roles) for keys in sampled(batched)]
    servers = shape_of(roles.servers).server
    for name, capacity in room.capacities.content.items():
        at_server = at_worker = 1
        for of_batch in of_batches:
            rows_R = [r.rows_K[r.rows_K != UNUSED] for r in of_batch[name]]
            at_worker = max(at_worker, *(len(rows) for rows in rows_R), 1)
            for first in range(0, len(rows_R), servers):
                rows = np.unique(np.concatenate(rows_R[first : first + servers]))
                at_server = max(at_server, *np.bincount(rows // capacity.rows_per_server), 1)
        assert room.staged_at_server[name] == at_server
        assert room.staged_at_worker[name] == at_worker


def test_a_run_that_goes_on_gets_the_same_capacities():
    once, again = (measured(source(), ROLES["1x8"], 1.25) for _ in range(2))
    assert once == again


def test_tables_that_the_sampled_batches_do_not_touch_still_have_room():
    """Else the first row that is wanted would never fit, in any number of rounds."""
    items = small_world.log().items
    bare = dataclasses.replace(items, image_N=np.full_like(items.image_N, NO_IMAGE))
    room = measured(source(items=bare), ROLES["1x8"], 1.25)
    assert room.capacities.content["ad"].per_server > 0
    assert min(room.staged_at_server["ad"], room.staged_at_worker["ad"]) > 0
    requests = lists(room.capacities, source()[0], ROLES["1x8"])
    assert max(int(request.rounds[0]) for request in requests["ad"]) >= 1
