"""Planned batches: what each device's slots lead to is what its lanes ask for.

Shape legend
    A   lanes of a batch    N   devices    K   slots of a list of unique rows
"""

import numpy as np
import pytest

from dicm_jax.ams.keys import NO_ROW, PADDING
from dicm_jax.ams.mesh import MeshShape
from dicm_jax.ams.plan import Capacity, Request
from dicm_jax.data.batches import BatchSource, KeyBatch
from dicm_jax.training.batch import Batch, Capacities, plan_batch
from dicm_jax.training.capacity import measured_capacities
from tests import small_world

IMAGES = {"ad": "ad", "behavior": "behavior"}
SHARED = {"ad": "image", "behavior": "image"}
RAGGED = 14


def planned(
    devices: int, images: dict[str, str], n: int = RAGGED
) -> tuple[KeyBatch, Batch, Capacities]:
    log = small_world.log()
    source = BatchSource(log, log.train, small_world.SHAPE, seed=0)
    capacities = measured_capacities(source, MeshShape(1, devices), images, 1.25)
    keys = source[n]
    return keys, plan_batch(keys, devices, capacities, images), capacities


def keys_at(slots, request: Request, capacity: Capacity, devices: int) -> np.ndarray:
    """The keys that slots lead to, device by device."""
    rows_NK = np.asarray(request.rows_K).reshape(devices, -1)
    per_device = np.asarray(slots).reshape(devices, -1)
    special = np.array([NO_ROW, PADDING])
    found = []
    for rows_K, slots_of in zip(rows_NK, per_device, strict=True):
        real = slots_of < capacity.unique
        keys = np.where(real, 0, special[np.where(real, 0, slots_of - capacity.unique)])
        keys[real] = capacity.layout.key(rows_K[slots_of[real]])
        found.append(keys)
    return np.concatenate(found)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("images", [IMAGES, SHARED], ids=["two", "shared"])
def test_slots_lead_to_the_keys_of_the_lanes(devices, images):
    keys, batch, capacities = planned(devices, images)
    of_ids = [
        (batch.user_slot_GF, keys.user_AGF),
        (batch.impression_slot_BF, keys.impression_ABF),
        (batch.behavior_slot_GL, keys.behavior_AGL),
    ]
    for slots, expected in of_ids:
        found = keys_at(slots, batch.ids, capacities.ids, devices)
        np.testing.assert_array_equal(found, expected.ravel())
        assert slots.shape == (expected.shape[0] * expected.shape[1], *expected.shape[2:])
    of_images = [
        ("ad", batch.ad_image_slot_B, keys.ad_image_AB),
        ("behavior", batch.behavior_image_slot_GL, keys.behavior_image_AGL),
    ]
    for side, slots, expected in of_images:
        model = images[side]
        found = keys_at(slots, batch.content[model], capacities.content[model], devices)
        np.testing.assert_array_equal(found, expected.ravel())
    assert batch.content.keys() == set(images.values())


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_groups_are_counted_on_their_device(devices):
    keys, batch, _ = planned(devices, IMAGES)
    lanes, groups = keys.user_AGF.shape[:2]
    user_NGF = keys.user_AGF.reshape(devices, -1, 2)
    group_NB = np.asarray(batch.group_B).reshape(devices, -1)
    for d, (user_GF, group_B) in enumerate(zip(user_NGF, group_NB, strict=True)):
        own = slice(d * lanes // devices, (d + 1) * lanes // devices)
        expected = np.take_along_axis(
            keys.user_AGF[own], keys.group_AB[own, :, None], axis=1
        ).reshape(-1, 2)
        np.testing.assert_array_equal(user_GF[group_B], expected)
        assert group_B.max() < groups * lanes // devices


def test_a_side_that_no_model_looks_at_is_not_asked_for():
    keys, batch, _ = planned(2, {"ad": "ad"})
    assert batch.behavior_image_slot_GL is None
    assert batch.content.keys() == {"ad"}
    np.testing.assert_array_equal(
        batch.behavior_mask_GL, (keys.behavior_image_AGL != PADDING).reshape(-1, 4)
    )
    _, batch, _ = planned(2, {})
    assert batch.ad_image_slot_B is None
    assert batch.content == {}


def test_behaviors_without_an_image_are_behaviors():
    keys, batch, _ = planned(1, IMAGES, n=0)
    without = (keys.behavior_image_AGL == NO_ROW).reshape(-1, 4)
    assert without.any()
    assert batch.behavior_mask_GL[without].all()
