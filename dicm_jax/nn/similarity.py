"""How alike the ad looks to what the user clicked: kernel pooling of cosines.

    c_i      = cos(ad, behavior_i)
    count_k  = sum_i exp(-(c_i - mu_k)^2 / (2 sigma_k^2))            k = 1 ... K

A soft histogram of the similarities, as in the kernel-pooling ranker K-NRM (Xiong et al. 2017): how
many behaviors look just like the ad, how many a little. The net sees ``log(1 + count_k)`` and the
share ``count_k / L``, with the largest and the mean cosine. Counts say what a weighted sum of
vectors cannot: that there is *one* behavior like this ad. No parameters of its own; the embedding
models learn through the cosines.

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   width of vectors
    K   kernels
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dicm_jax.nn.chunked import in_chunks
from dicm_jax.nn.of_groups import inner_products, of_group

CENTERS = np.array([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0], np.float32)
SPREADS = np.array([0.1, 0.07, 0.07, 0.07, 0.07, 0.07, 0.1, 0.1, 0.12, 0.12, 0.1], np.float32)
"""Dense around 0, where cosines of whitened vectors lie; the last kernel is that of equal looks."""

SHORTEST = 0.01
"""Cosines of vectors below this length fade to 0. The vector of items without content starts at 0,
where a cosine has no slope of its own; one of 1e6 would be all that Adam remembers of it."""


class SimilarityKernels(nnx.Module):
    """The soft histogram of cosines.

    Args:
      chunk: impressions at a time.

    Attributes:
      width: of what comes out, ``2 K + 2``.
    """

    def __init__(self, chunk: int):
        self.chunk, self.width = chunk, 2 * len(CENTERS) + 2

    def __call__(
        self,
        ad_BE: Float[Array, "B E"],
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B width"]:
        """Zero where there are no behaviors."""
        unit_ad_BE, unit_behavior_GLE = _unit(ad_BE), _unit(behavior_GLE)

        def compare(ad_BE: Array, group_B: Array) -> Array:
            cosine_BL = inner_products(ad_BE, unit_behavior_GLE, group_B)
            return _summary(cosine_BL, of_group(mask_GL, group_B))

        return in_chunks(compare, self.chunk, unit_ad_BE, group_B)


def _unit(x: Array) -> Array:
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, SHORTEST**2))


def _summary(cosine_BL: Array, mask_BL: Array) -> Array:
    there_BL = mask_BL.astype(cosine_BL.dtype)
    n_B1 = jnp.maximum(jnp.sum(there_BL, axis=1, keepdims=True), 1.0)
    away_BLK = (cosine_BL[..., None] - CENTERS[None, None]) / SPREADS[None, None]
    count_BK = jnp.einsum("blk,bl->bk", jnp.exp(-0.5 * jnp.square(away_BLK)), there_BL)
    most_B1 = jnp.max(jnp.where(mask_BL, cosine_BL, -1.0), axis=1, keepdims=True)
    most_B1 = jnp.where(jnp.any(mask_BL, axis=1, keepdims=True), most_B1, 0.0)
    mean_B1 = jnp.sum(cosine_BL * there_BL, axis=1, keepdims=True) / n_B1
    return jnp.concatenate([jnp.log1p(count_BK), count_BK / n_B1, most_B1, mean_B1], axis=1)
