"""How alike the ad's IDs are to those of the behaviors: one inner product a field.

    match_f = < e_f(ad), mean_i e_f(behavior_i) >

With rows of unit size this is about the share of behaviors with the ad's category, brand or color,
softened by what the rows learn of which are alike. It starts to learn only if rows start large
enough for their products to count (``model.match_init_scale``).

Shape legend
    G   groups     B   impressions     L   behaviors per group     K   IDs of a behavior, F E wide
    F   ID fields of behaviors         M   fields that are compared
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.aggregators import sum_pooling
from dicm_jax.nn.spec import NetSpec


class IdMatches(nnx.Module):
    """The inner products.

    Args:
      spec: which fields.

    Attributes:
      width: ``M``.
    """

    def __init__(self, spec: NetSpec):
        self.fields, self.width = spec.match_fields, len(spec.match_fields)
        self.targets = tuple(spec.behavior_targets[field] for field in spec.match_fields)

    def __call__(self, inputs: Inputs) -> Float[Array, "B M"]:
        """Zero where there are no behaviors."""
        mask_GL = inputs.behavior_mask_GL
        n_G1 = jnp.maximum(jnp.sum(mask_GL, axis=1, keepdims=True, dtype=jnp.float32), 1.0)
        mean_GK = sum_pooling(inputs.behavior_ids_GLK, mask_GL) / n_G1
        embedding_width = inputs.impression_BFE.shape[-1]
        mean_GFE = mean_GK.reshape(len(mean_GK), -1, embedding_width)[:, list(self.fields)]
        ad_BME = inputs.impression_BFE[:, list(self.targets)]
        return jnp.sum(ad_BME * mean_GFE[inputs.group_B], axis=-1)
