"""Aggregators: the pooling of a user's behaviors into one vector (paper section 5.2, Fig. 3).

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   width of behaviors
    Q   width of a query               H   hidden width of an activation unit
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dicm_jax.nn.chunked import in_chunks
from dicm_jax.nn.prelu import PReLU, he_normal

Interaction = Literal["concat", "product"]
Normalizer = Literal["none", "softmax"]

INITIAL_WEIGHT = 0.05
"""What a behavior counts at the start, give or take as much: the sum over tens of behaviors is then
of the size of one vector, whatever the draw. Weights of size 1 make the first steps explode."""


class ActivationUnit(nnx.Module):
    """How much a behavior counts for a query: ``w = FC1(FC16(FC64([e ; q])))``, PReLU between.

    The first layer's product with ``e`` is taken once a group and not once an impression:
    ``[e ; q] W = e W_e + q W_q``. With ``interaction="product"`` the element-wise product joins the
    input, as in DIN: ``[e ; q ; e * q]``.

    Args:
      key_width: ``E``.
      query_width: ``Q``; equal to ``E`` for the product.
      widths: hidden widths, the paper's ``(64, 16)``.
      interaction: what the first layer sees.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        key_width: int,
        query_width: int,
        widths: Sequence[int],
        *,
        interaction: Interaction,
        rngs: nnx.Rngs,
    ):
        first, *rest = widths
        fan_in = key_width * (2 if interaction == "product" else 1) + query_width
        weights = he_normal()(rngs.params(), (fan_in, first))
        self.key_EH = nnx.Param(weights[:key_width])
        self.query_QH = nnx.Param(weights[key_width : key_width + query_width])
        self.product_EH = (
            nnx.Param(weights[key_width + query_width :]) if interaction == "product" else None
        )
        self.bias_H = nnx.Param(jnp.zeros(first))
        self.activations = nnx.List([PReLU(width) for width in widths])
        self.hidden = nnx.List(
            [
                nnx.Linear(fan_in, fan_out, kernel_init=he_normal(), rngs=rngs)
                for fan_in, fan_out in zip(widths[:-1], rest, strict=True)
            ]
        )
        self.output = nnx.Linear(
            widths[-1],
            1,
            kernel_init=jax.nn.initializers.normal(INITIAL_WEIGHT / math.sqrt(widths[-1])),
            bias_init=jax.nn.initializers.constant(INITIAL_WEIGHT),
            rngs=rngs,
        )

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        query_BQ: Float[Array, "B Q"],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B L"]:
        from_query_B1H = (query_BQ @ self.query_QH[...] + self.bias_H[None, :])[:, None, :]
        if self.product_EH is None:
            x_BLH = (behavior_GLE @ self.key_EH[...])[group_B] + from_query_B1H
        else:
            weights_BEH = self.key_EH[...][None] + query_BQ[:, :, None] * self.product_EH[...][None]
            x_BLH = jnp.einsum("ble,beh->blh", behavior_GLE[group_B], weights_BEH) + from_query_B1H
        x_BLH = self.activations[0](x_BLH)
        for layer, activation in zip(self.hidden, self.activations[1:], strict=True):
            x_BLH = activation(layer(x_BLH))
        return self.output(x_BLH)[..., 0]


def as_they_are(weight_BL: Float[Array, "B L"], mask_BL: Bool[Array, "B L"]) -> Array:
    """Weights without normalisation: how many behaviors matter stays visible.

    The paper follows DIN in this.
    """
    return jnp.where(mask_BL, weight_BL, 0.0)


def softmax(weight_BL: Float[Array, "B L"], mask_BL: Bool[Array, "B L"]) -> Array:
    """Weights that sum to one over the behaviors that are there; all zero where there are none."""
    low_BL = jnp.where(mask_BL, weight_BL, jnp.finfo(weight_BL.dtype).min)
    return jnp.where(mask_BL, jax.nn.softmax(low_BL, axis=-1), 0.0)


NORMALIZERS = {"none": as_they_are, "softmax": softmax}


class AttentivePooling(nnx.Module):
    """``sum_i w(e_i, q) e_i``: behaviors weighted by an activation unit. None give exactly zero.

    Args:
      key_width, query_width, widths, interaction, rngs: as for `ActivationUnit`.
      normalizer: what becomes of the weights, a key of `NORMALIZERS`.
    """

    def __init__(
        self,
        key_width: int,
        query_width: int,
        widths: Sequence[int],
        *,
        interaction: Interaction,
        normalizer: Normalizer,
        rngs: nnx.Rngs,
    ):
        self.unit = ActivationUnit(
            key_width, query_width, widths, interaction=interaction, rngs=rngs
        )
        self.normalize = NORMALIZERS[normalizer]

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        query_BQ: Float[Array, "B Q"],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B E"]:
        weight_BL = self.unit(behavior_GLE, query_BQ, group_B)
        weight_BL = self.normalize(weight_BL, mask_GL[group_B])
        return jnp.einsum("bl,ble->be", weight_BL, behavior_GLE[group_B])


def sum_pooling(
    behavior_GLE: Float[Array, "G L E"], mask_GL: Bool[Array, "G L"]
) -> Float[Array, "G E"]:
    """``sum_i e_i`` over the behaviors that are there."""
    return jnp.sum(jnp.where(mask_GL[..., None], behavior_GLE, 0.0), axis=1)


class MultiQueryAttentivePooling(nnx.Module):
    """Attentive pooling once per query, side by side (paper section 5.2).

    The ad's image asks for one relevance, its IDs (category) for another.

    Args:
      key_width: ``E``.
      query_widths: width of each query.
      widths, interaction, normalizer, rngs: as for `AttentivePooling`. The product needs a query
        as wide as the behaviors; queries of other widths are concatenated only.
      chunk: impressions attended to at a time.
    """

    def __init__(
        self,
        key_width: int,
        query_widths: Sequence[int],
        widths: Sequence[int],
        *,
        interaction: Interaction,
        normalizer: Normalizer,
        chunk: int = 256,
        rngs: nnx.Rngs,
    ):
        self.chunk = chunk
        self.poolings = nnx.List(
            [
                AttentivePooling(
                    key_width,
                    query_width,
                    widths,
                    interaction=interaction if query_width == key_width else "concat",
                    normalizer=normalizer,
                    rngs=rngs,
                )
                for query_width in query_widths
            ]
        )

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        queries: Sequence[Array],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B width"]:
        """Pool once for each query; the output is ``E`` wide for each."""

        def pool(group_B: Array, *queries: Array) -> Array:
            pooled = [
                pooling(behavior_GLE, mask_GL, query_BQ, group_B)
                for pooling, query_BQ in zip(self.poolings, queries, strict=True)
            ]
            return jnp.concatenate(pooled, axis=-1)

        return in_chunks(pool, self.chunk, group_B, *queries)
