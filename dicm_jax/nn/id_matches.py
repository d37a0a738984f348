"""How alike the ad's IDs are to those of the behaviors: one inner product a field.

    mean_f  = mean_i e_f(behavior_i),    match_f = < e_f(ad), mean_f >

With rows of unit size the product is about the share of behaviors with the ad's category, brand or
color, softened by what the rows learn of which are alike. It starts to learn only if rows start
large enough for their products to count (``model.match_init_scale``), and rows of that size are
averaged, not summed, lest long histories drown everything.

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   embedding width
    F   ID fields of behaviors         M   fields that are compared
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.nn.aggregators import sum_pooling
from dicm_jax.nn.inputs import Inputs, behavior_ids, flat
from dicm_jax.nn.of_groups import of_group
from dicm_jax.nn.spec import NetSpec


class IdMatches(nnx.Module):
    """The products, and the means that they are taken with.

    Args:
      spec: which fields.

    Attributes:
      width: ``M (1 + E)``.
    """

    def __init__(self, spec: NetSpec):
        self.fields = spec.match_fields
        self.targets = tuple(spec.behavior_targets[field] for field in spec.match_fields)
        self.width = len(self.fields) * (1 + spec.embedding_width)

    def __call__(self, inputs: Inputs) -> Float[Array, "B width"]:
        """Zero where there are no behaviors."""
        ad_BME = inputs.impression_BFE[:, list(self.targets)]
        mask_GL = inputs.behavior_mask_GL
        n_G1 = jnp.maximum(jnp.sum(mask_GL, axis=1, keepdims=True, dtype=jnp.float32), 1.0)
        mean_GX = sum_pooling(behavior_ids(inputs, self.fields), mask_GL) / n_G1
        mean_BME = of_group(mean_GX, inputs.group_B).reshape(ad_BME.shape)
        match_BM = jnp.sum(ad_BME * mean_BME, axis=-1)
        return jnp.concatenate([match_BM, flat(mean_BME)], axis=-1)
