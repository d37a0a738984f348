"""The activation unit: how much a behavior counts for a query (paper Fig. 3, after DIN).

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   width of behaviors
    Q   width of a query               H   hidden width            X   rows of an interaction
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dicm_jax.nn.dice import ACTIVATIONS
from dicm_jax.nn.of_groups import of_group
from dicm_jax.nn.prelu import he_normal

InteractionName = Literal["concat", "product", "outer"]

INITIAL_WEIGHT = 0.05
"""What a behavior counts at the start, give or take as much: the sum over tens of behaviors is then
of the size of one vector, whatever the draw. Weights of size 1 make the first steps explode."""


@dataclasses.dataclass(frozen=True)
class Interaction:
    """What the first layer sees beside behavior and query, as weights on the behavior.

    A term that is linear in the behavior ``e`` is ``e W(q)``: the query makes the weights.

    Attributes:
      rows: rows ``X`` of the term's weights for widths ``E`` and ``Q``.
      weights_on_key: from the queries and the term's weights to the weights on behaviors.
    """

    rows: Callable[[int, int], int]
    weights_on_key: Callable[[Array, Array], Array]


def _product(query_BQ: Array, weights_XH: Array) -> Array:
    return query_BQ[:, :, None] * weights_XH[None]


def _outer(query_BQ: Array, weights_XH: Array) -> Array:
    weights_EQH = weights_XH.reshape(-1, query_BQ.shape[1], weights_XH.shape[1])
    return jnp.einsum("bq,eqh->beh", query_BQ, weights_EQH)


INTERACTIONS: dict[str, Interaction | None] = {
    "concat": None,
    "product": Interaction(lambda key, query: key, _product),
    "outer": Interaction(lambda key, query: key * query, _outer),
}
"""What joins ``[e ; q]``: nothing, as the paper draws it; ``e * q``, element by element, as in
public DIN code (whose ``q - e`` is a combination of ``e`` and ``q``, which the same layer forms);
or all products of their elements, as DIN's paper draws it."""


class ActivationUnit(nnx.Module):
    """``w = FC1(FC16(FC64([e ; q ; interaction])))`` with an activation between the layers.

    The first layer's product with ``e`` is taken once a group and not once an impression:
    ``[e ; q] W = e W_e + q W_q``.

    Args:
      key_width: ``E``.
      query_width: ``Q``; equal to ``E`` for the product.
      widths: hidden widths, the paper's ``(64, 16)``.
      interaction: a key of `INTERACTIONS`.
      activation: between the layers, a key of `dicm_jax.nn.dice.ACTIVATIONS`.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        key_width: int,
        query_width: int,
        widths: Sequence[int],
        *,
        interaction: InteractionName,
        activation: str = "prelu",
        rngs: nnx.Rngs,
    ):
        first, *rest = widths
        self.interaction = INTERACTIONS[interaction]
        extra = self.interaction.rows(key_width, query_width) if self.interaction else 0
        fan_in = key_width + query_width + extra
        weights = he_normal()(rngs.params(), (fan_in, first))
        self.key_EH = nnx.Param(weights[:key_width])
        self.query_QH = nnx.Param(weights[key_width : key_width + query_width])
        if self.interaction is not None:
            self.interaction_XH = nnx.Param(weights[key_width + query_width :])
        self.bias_H = nnx.Param(jnp.zeros(first))
        self.activations = nnx.List([ACTIVATIONS[activation](width) for width in widths])
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
        there_BL: Bool[Array, "B L"],
        query_BQ: Float[Array, "B Q"],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B L"]:
        from_query_B1H = (query_BQ @ self.query_QH[...] + self.bias_H[None, :])[:, None, :]
        x_BLH = self._from_key(behavior_GLE, query_BQ, group_B) + from_query_B1H
        x_BLH = self.activations[0](x_BLH, there_BL)
        for layer, activation in zip(self.hidden, self.activations[1:], strict=True):
            x_BLH = activation(layer(x_BLH), there_BL)
        return self.output(x_BLH)[..., 0]

    def _from_key(self, behavior_GLE: Array, query_BQ: Array, group_B: Array) -> Array:
        if self.interaction is None:
            return of_group(behavior_GLE @ self.key_EH[...], group_B)
        weights_BEH = self.interaction.weights_on_key(query_BQ, self.interaction_XH[...])
        weights_BEH = self.key_EH[...][None] + weights_BEH
        return jnp.einsum("ble,beh->blh", of_group(behavior_GLE, group_B), weights_BEH)
