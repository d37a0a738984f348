"""What the network on a worker sees: pulled vectors put at their places in the batch.

Shape legend
    K   slots of a device's list of unique rows      E   embedding width
    G   groups     B   impressions     L   behaviors per group     F   ID fields of a level
    Fb  ID fields of behaviors         Kb  = Fb * E, all IDs of a behavior side by side
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """Embedded samples of one device.

    Attributes:
      user_GFE: user-level ID fields, once per group.
      impression_BFE: item- and context-level ID fields.
      behavior_ids_GLK: ID rows of the behaviors' items, all fields side by side; zero at padding.
      ad_BE: compressed content of each impression's item, by content (``"image"``).
      behavior_GLE: compressed content of the behaviors' items, by content.
      behavior_mask_GL: True where there is a behavior.
      group_B: the group of each impression.
      there_B: False at padding.
    """

    user_GFE: Float[Array, "G Fu E"]
    impression_BFE: Float[Array, "B Fi E"]
    behavior_ids_GLK: Float[Array, "G L Kb"]
    ad_BE: dict[str, Any]
    behavior_GLE: dict[str, Any]
    behavior_mask_GL: Bool[Array, "G L"]
    group_B: Int[Array, " B"]
    there_B: Bool[Array, " B"]


def flat(x: Array) -> Array:
    """Everything but dim 0 side by side."""
    return x.reshape(x.shape[0], -1)


def behavior_ids(inputs: Inputs, fields: Sequence[int]) -> Float[Array, "G L X"]:
    """ID rows of the behaviors, some of their fields side by side."""
    groups, behaviors, all_ids = inputs.behavior_ids_GLK.shape
    width = inputs.impression_BFE.shape[-1]
    behavior_GLFE = inputs.behavior_ids_GLK.reshape(groups, behaviors, all_ids // width, width)
    return behavior_GLFE[:, :, list(fields)].reshape(groups, behaviors, len(fields) * width)


def place(
    vectors_KE: Float[Array, "K E"],
    slots: Int[Array, "*places"],
    missing_E: Float[Array, " E"] | None = None,
) -> Float[Array, "*places E"]:
    """Put vectors at their places in the batch.

    Args:
      vectors_KE: pulled vectors, in the order of the plan.
      slots: ``0 .. K - 1``, a vector; ``K``, a key without a row; ``K + 1``, no key.
      missing_E: vector of a key without a row; zeros if None.

    Padding is a constant zero, so nothing that stands there gets a gradient.
    """
    width = vectors_KE.shape[-1]
    missing_E = jnp.zeros(width) if missing_E is None else missing_E
    special_2E = jnp.stack([missing_E, jnp.zeros(width)])
    return jnp.concatenate([vectors_KE, special_2E])[slots]
