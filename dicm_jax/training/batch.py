"""A batch as the devices take it: requests to the servers, and slots that say what goes where.

Shape legend (the dims of one device; global arrays hold those of all devices, one after another)
    K   slots of a list of unique rows     G   groups     B   impressions
    L   behaviors per group                F   ID fields of a level
    A   lanes of a batch
"""

import dataclasses
from collections.abc import Mapping
from typing import no_type_check

import jax
import numpy as np

from dicm_jax.ams.keys import PADDING
from dicm_jax.ams.plan import Capacity, Leaf, Request, plan
from dicm_jax.data.batches import KeyBatch


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples of one device, or of all of them, planned.

    Attributes:
      ids: request for ID rows.
      content: request for compressed vectors, by embedding model.
      user_slot_GF, impression_slot_BF, behavior_slot_GL: slots of ID rows.
      ad_image_slot_B, behavior_image_slot_GL: slots of vectors; None where a model does not look.
      behavior_mask_GL: True where there is a behavior.
      group_B: group of each impression, counted on its device.
      label_B: 1 clicked, 0 not.
      weight_B: 1 for an impression, 0 for padding.
    """

    ids: Request
    content: dict[str, Request]
    user_slot_GF: Leaf
    impression_slot_BF: Leaf
    behavior_slot_GL: Leaf
    ad_image_slot_B: Leaf
    behavior_image_slot_GL: Leaf
    behavior_mask_GL: Leaf
    group_B: Leaf
    label_B: Leaf
    weight_B: Leaf


@dataclasses.dataclass(frozen=True)
class Capacities:
    """What the exchanges of a step are compiled for.

    Attributes:
      ids: of the ID table.
      content: by embedding model.
    """

    ids: Capacity
    content: dict[str, Capacity]


ImageModels = Mapping[str, str]
"""Which embedding model sees which input: ``{"ad": "ad", "behavior": "behavior"}`` for the paper's
two, the same name twice for a shared one; inputs that a model does not look at are left out."""


def plan_batch(
    keys: KeyBatch, devices: int, capacities: Capacities, image_models: ImageModels
) -> Batch:
    """Plan the pulls of every device and arrange a batch for them.

    Args:
      keys: the batch; its lanes are dealt to devices in order.
      devices: devices that this host feeds; must divide the lanes.
      capacities: what the step is compiled for.
      image_models: which embedding model sees which input.
    """
    return _join([_plan_device(part, capacities, image_models) for part in _deal(keys, devices)])


def _deal(keys: KeyBatch, devices: int) -> list[KeyBatch]:
    lanes = len(keys.label_AB) // devices
    return [
        KeyBatch(
            **{
                field.name: getattr(keys, field.name)[d * lanes : (d + 1) * lanes]
                for field in dataclasses.fields(keys)
            }
        )
        for d in range(devices)
    ]


def _plan_device(keys: KeyBatch, capacities: Capacities, image_models: ImageModels) -> Batch:
    ids, id_slots = _plan_together(
        {
            "user": keys.user_AGF,
            "impression": keys.impression_ABF,
            "behavior": keys.behavior_AGL,
        },
        capacities.ids,
    )
    content, image_slots = _plan_images(keys, capacities, image_models)
    lanes, groups = keys.behavior_AGL.shape[:2]
    first_group_A1 = np.arange(lanes, dtype=np.int32)[:, None] * groups
    return Batch(
        ids=ids,
        content=content,
        user_slot_GF=_flat(id_slots["user"]),
        impression_slot_BF=_flat(id_slots["impression"]),
        behavior_slot_GL=_flat(id_slots["behavior"]),
        ad_image_slot_B=image_slots.get("ad"),
        behavior_image_slot_GL=image_slots.get("behavior"),
        behavior_mask_GL=_flat(keys.behavior_image_AGL != PADDING),
        group_B=_flat(keys.group_AB + first_group_A1),
        label_B=_flat(keys.label_AB),
        weight_B=_flat(keys.weight_AB),
    )


def _plan_images(
    keys: KeyBatch, capacities: Capacities, image_models: ImageModels
) -> tuple[dict[str, Request], dict[str, np.ndarray]]:
    """One request per embedding model, for all inputs that it sees."""
    keys_of = {"ad": keys.ad_image_AB, "behavior": keys.behavior_image_AGL}
    requests, slots = {}, {}
    for model in sorted(set(image_models.values())):
        inputs = {name: keys_of[name] for name in image_models if image_models[name] == model}
        requests[model], slots_of = _plan_together(inputs, capacities.content[model])
        slots |= {name: _flat(array) for name, array in slots_of.items()}
    return requests, slots


def _plan_together(
    keys_of: dict[str, np.ndarray], capacity: Capacity
) -> tuple[Request, dict[str, np.ndarray]]:
    flat = np.concatenate([keys.reshape(-1) for keys in keys_of.values()])
    rows_K, slots, rounds = plan(flat, capacity)
    ends = np.cumsum([keys.size for keys in keys_of.values()])[:-1]
    parts = zip(keys_of.items(), np.split(slots, ends), strict=True)
    request = Request(rows_K, np.array([rounds], np.int32))
    return request, {name: part.reshape(keys.shape) for (name, keys), part in parts}


def _flat(x: np.ndarray) -> np.ndarray:
    """Join lanes and what stands in them."""
    return x.reshape(-1, *x.shape[2:])


def _join(batches: list[Batch]) -> Batch:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
