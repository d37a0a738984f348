"""Capacities: bounds that no batch exceeds, and room for what the sampled batches need.

Shape legend
    N   devices    K   slots of a list of unique rows
"""

import dataclasses

import numpy as np
import pytest

from dicm_jax.ams.mesh import MeshShape
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.training import capacity as capacity_module
from dicm_jax.training.batch import Batch, Capacities, plan_batch
from dicm_jax.training.capacity import measured_capacities
from tests import small_world

IMAGES = {"ad": "ad", "behavior": "behavior"}
MESHES = [MeshShape(1, 1), MeshShape(1, 8), MeshShape(2, 4)]


@pytest.fixture(autouse=True)
def fine_rounding(monkeypatch):
    """Steps of 128 rows would hide everything at this size."""
    monkeypatch.setattr(capacity_module, "_ROUND_UP_TO", 1)


def source(**changes) -> BatchSource:
    log = dataclasses.replace(small_world.log(), **changes)
    return BatchSource(log, log.train, small_world.SHAPE, epochs=2, seed=0)


def parts(capacities: Capacities, batch: Batch) -> list[tuple[Capacity, Request]]:
    contents = [(capacities.content[name], request) for name, request in batch.content.items()]
    return [(capacities.ids, batch.ids), *contents]


def most_from_one_server(rows_NK: np.ndarray, capacity: Capacity) -> int:
    counts = [
        np.bincount(rows_K[rows_K != UNUSED] // capacity.rows_per_server, minlength=1).max()
        for rows_K in rows_NK
    ]
    return int(max(counts))


@pytest.mark.parametrize("mesh", MESHES, ids=str)
@pytest.mark.parametrize("images", [IMAGES, {"ad": "image", "behavior": "image"}, {"ad": "ad"}])
def test_room_is_what_the_most_demanding_batch_needs_times_the_factor(mesh, images):
    batched = source()
    ones, twos = (measured_capacities(batched, mesh, images, factor) for factor in (1.0, 2.0))
    assert ones.content.keys() == set(images.values())
    numbers = np.linspace(0, len(batched) - 1, capacity_module.SAMPLED_BATCHES).astype(int)
    sampled = [plan_batch(batched[int(n)], mesh.devices, ones, images) for n in numbers]
    for i, (capacity, _) in enumerate(parts(ones, sampled[0])):
        requests = [parts(ones, batch)[i][1] for batch in sampled]
        most = max(
            most_from_one_server(request.rows_K.reshape(mesh.devices, -1), capacity)
            for request in requests
        )
        assert capacity.per_server == most
        assert max(int(request.rounds.max()) for request in requests) == 1
        wider = parts(twos, sampled[0])[i][0]
        assert wider.per_server == min(2 * most, wider.unique)
        assert capacity.servers == mesh.server


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_no_batch_has_more_rows_than_the_bound(mesh):
    """Planning would fail to write them into the list."""
    batched = source()
    capacities = measured_capacities(batched, mesh, IMAGES, 1.0)
    for n in range(len(batched)):
        for capacity, request in parts(
            capacities, plan_batch(batched[n], mesh.devices, capacities, IMAGES)
        ):
            assert request.rows_K.shape == (mesh.devices * capacity.unique,)
            assert (np.diff(request.rows_K.reshape(mesh.devices, -1).astype(int)) >= 0).all()


def test_a_run_that_goes_on_gets_the_same_capacities():
    mesh = MESHES[1]
    once, again = (measured_capacities(source(), mesh, IMAGES, 1.25) for _ in range(2))
    assert once == again


def test_tables_that_the_sampled_batches_do_not_touch_still_have_room():
    """Else the first row that is wanted would never fit, in any number of rounds."""
    items = small_world.log().items
    bare = dataclasses.replace(items, image_N=np.full_like(items.image_N, NO_IMAGE))
    capacities = measured_capacities(source(items=bare), MESHES[1], IMAGES, 1.25)
    assert capacities.content["ad"].per_server > 0
    batch = plan_batch(source()[0], MESHES[1].devices, capacities, IMAGES)
    assert batch.content["ad"].rounds.max() >= 1
