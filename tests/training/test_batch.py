"""Planned batches: what each worker's slots lead to is what its lanes ask for.

Shape legend
    A   lanes of a batch    N   workers    K   slots of a list of unique rows
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE, NO_ROW, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import Roles
from dicm_jax.ams.plan import Capacity, Request
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.nn.spec import Images
from dicm_jax.training.batch import IDS, Samples
from dicm_jax.training.capacity import measured_room
from dicm_jax.training.model import ModelSpec
from dicm_jax.training.planning import PlannedList, Planner
from tests import small_world
from tests.small_world import TEXT

SPEC = small_world.model_spec()
SHARED = dataclasses.replace(SPEC, share_compressor=True)
TEXTS = small_world.model_spec(contents=(IMAGE, TEXT))
ROLES = {
    "1": small_world.roles_of(1, 1, "colocated"),
    "2": small_world.roles_of(1, 2, "colocated"),
    "2x4": small_world.roles_of(2, 4, "colocated"),
    "1 for 1": small_world.roles_of(1, 4, "dedicated"),
    "2 for 1": small_world.roles_of(2, 2, "dedicated"),
}
RAGGED = 14


@dataclasses.dataclass
class Planned:
    """A batch of keys, and what the planner makes of it."""

    keys: KeyBatch
    planner: Planner
    parts: list[PlannedList]

    @property
    def workers(self) -> int:
        return self.planner.requesters * self.planner.workers_per_list

    def of_worker(self, worker: int) -> tuple[PlannedList, Samples]:
        """Worker ``(i, s)`` has block ``i R + s`` of the lanes, and the list of requester s."""
        row, number = divmod(worker, self.planner.requesters)
        return self.parts[number], self.parts[number].samples[row]


def planned(roles: Roles, spec: ModelSpec, n: int = RAGGED, **options: Any) -> Planned:
    log = small_world.log_with_texts()
    source = BatchSource(log, log.train, small_world.SHAPE, seed=0)
    layouts = small_world.layouts_for(source, spec)
    distinct = options.get("distinct", True)
    room = measured_room(source, roles, layouts, spec.inputs, 1.25, distinct=distinct)
    planner = Planner(
        roles.requesters,
        roles.workers_per_list,
        room.capacities,
        layouts,
        spec.inputs,
        **options,
    )
    return Planned(source[n], planner, planner.plan(source[n], range(roles.requesters)))


def keys_at(
    slots: np.ndarray, request: Request, capacity: Capacity, layout: RowLayout
) -> np.ndarray:
    """The keys that slots lead to."""
    special = np.array([NO_ROW, PADDING])
    real = slots < capacity.unique
    keys = np.where(real, 0, special[np.where(real, 0, slots - capacity.unique)])
    keys[real] = layout.key(request.rows_K[slots[real]])
    return keys


def own(keys_A: np.ndarray, worker: int, workers: int) -> np.ndarray:
    """The part of an array of lanes that a worker has, its lanes joined."""
    size = len(keys_A) // workers
    part = keys_A[worker * size : (worker + 1) * size]
    return part.reshape(-1, *part.shape[2:])


@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize("spec", [SPEC, SHARED, TEXTS], ids=["two", "shared", "texts"])
@pytest.mark.parametrize("distinct", [True, False])
def test_slots_lead_to_the_keys_of_the_lanes(roles, spec, distinct):
    made = planned(ROLES[roles], spec, distinct=distinct)
    layouts, capacities = made.planner.layouts, made.planner.capacities
    for worker in range(made.workers):
        part, samples = made.of_worker(worker)
        for slots, keys in [
            (samples.user_slot_GF, made.keys.user_AGF),
            (samples.impression_slot_BF, made.keys.impression_ABF),
            (samples.behavior_slot_GLF, made.keys.behavior_AGLF),
        ]:
            found = keys_at(slots, part.servers.ids, capacities.ids, layouts.ids)
            np.testing.assert_array_equal(found, own(keys, worker, made.workers))
        for seen in spec.inputs:
            of_ad = seen.side == "ad"
            slots = (samples.ad_slot_B if of_ad else samples.behavior_content_slot_GL)[seen.content]
            keys = (made.keys.ad_AB if of_ad else made.keys.behavior_content_AGL)[seen.content]
            request = part.servers.content[seen.model]
            capacity = capacities.content[seen.model]
            found = keys_at(slots, request, capacity, layouts.content[seen.model])
            np.testing.assert_array_equal(found, own(keys, worker, made.workers))


@pytest.mark.parametrize("roles", ROLES)
def test_workers_get_the_lists_of_their_requester(roles):
    made = planned(ROLES[roles], TEXTS)
    for part in made.parts:
        assert part.lists == {IDS: part.servers.ids} | part.servers.content
        assert part.servers.content.keys() == {"ad", "behavior", "ad_text", "behavior_text"}
        assert len(part.samples) == made.planner.workers_per_list
        assert part.rows == {}
        assert part.servers.staged == {}


def test_inputs_that_share_an_embedding_model_share_a_list():
    two, one = planned(ROLES["2"], SPEC), planned(ROLES["2"], SHARED)
    for apart, together in zip(two.parts, one.parts, strict=True):
        rows = [request.rows_K for request in apart.servers.content.values()]
        (shared,) = together.servers.content.values()
        merged = np.unique(np.concatenate(rows))
        np.testing.assert_array_equal(shared.rows_K[: len(merged)], merged)
        assert shared.places[0] == sum(int(r.places[0]) for r in apart.servers.content.values())


@pytest.mark.parametrize("roles", ROLES)
def test_groups_are_counted_on_their_worker(roles):
    made = planned(ROLES[roles], SPEC)
    layouts, capacities = made.planner.layouts, made.planner.capacities
    keys = made.keys
    user_ABF = np.take_along_axis(keys.user_AGF, keys.group_AB[:, :, None], axis=1)
    for worker in range(made.workers):
        part, samples = made.of_worker(worker)
        found_GF = keys_at(samples.user_slot_GF, part.servers.ids, capacities.ids, layouts.ids)
        np.testing.assert_array_equal(
            found_GF[samples.group_B], own(user_ABF, worker, made.workers)
        )
        assert samples.group_B.max() < len(samples.user_slot_GF)


@pytest.mark.parametrize(
    ("images", "models"), [("ad", {"ad"}), ("behavior", {"behavior"}), ("none", set())]
)
def test_a_side_that_no_model_looks_at_is_not_asked_for(images: Images, models: set[str]):
    made = planned(ROLES["2"], small_world.model_spec(images=images))
    for worker in range(2):
        part, samples = made.of_worker(worker)
        assert part.servers.content.keys() == models
        assert bool(samples.ad_slot_B) == ("ad" in models)
        assert bool(samples.behavior_content_slot_GL) == ("behavior" in models)
        there_GL = own(made.keys.behavior_content_AGL[IMAGE] != PADDING, worker, 2)
        np.testing.assert_array_equal(samples.behavior_mask_GL, there_GL)


def test_behaviors_without_an_image_are_behaviors():
    made = planned(ROLES["1"], SPEC, n=0)
    without = own(made.keys.behavior_content_AGL[IMAGE] == NO_ROW, 0, 1)
    assert without.any()
    _, samples = made.of_worker(0)
    assert samples.behavior_mask_GL[without].all()


def test_a_process_plans_its_own_requesters_and_finds_what_others_find():
    made = planned(ROLES["2x4"], SPEC)
    for number in (2, 5):
        (alone,) = made.planner.plan(made.keys, [number])
        expected = made.parts[number]
        np.testing.assert_array_equal(alone.servers.ids.rows_K, expected.servers.ids.rows_K)
        np.testing.assert_array_equal(
            alone.samples[0].impression_slot_BF, expected.samples[0].impression_slot_BF
        )
