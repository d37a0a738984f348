"""Aggregators: the pooling of a user's behaviors into one vector (paper section 5.2, Fig. 3).

All have one interface, `Aggregator`, and none sees padding:

    concat        e_1, ..., e_N side by side        depends on the order
    max, sum      of each element
    attentive     sum_i w(e_i, q) e_i               q: the ad's image
    multi_query   the same for several queries      q: the ad's image; ID fields of the ad

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   width of behaviors
    N   behaviors that concat keeps
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dicm_jax.nn.activation_unit import ActivationUnit
from dicm_jax.nn.chunked import in_chunks
from dicm_jax.nn.inputs import flat
from dicm_jax.nn.of_groups import of_group, weighted_sum

AggregatorName = Literal["multi_query", "attentive", "sum", "max", "concat"]
NormalizerName = Literal["none", "softmax"]
Queries = Sequence[Array]
"""What an ad asks for, ``[B, Q]`` each; those who do not attend leave them alone."""


@runtime_checkable
class Aggregator(Protocol):
    """Pools behaviors for each impression.

    Attributes:
      width: of what comes out.
    """

    width: int

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        queries: Queries,
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B width"]:
        """Pool the behaviors that are there; none at all give exactly zero."""
        ...


def sum_pooling(
    behavior_GLE: Float[Array, "G L E"], mask_GL: Bool[Array, "G L"]
) -> Float[Array, "G E"]:
    """``sum_i e_i`` over the behaviors that are there."""
    return jnp.sum(jnp.where(mask_GL[..., None], behavior_GLE, 0.0), axis=1)


def max_pooling(
    behavior_GLE: Float[Array, "G L E"], mask_GL: Bool[Array, "G L"]
) -> Float[Array, "G E"]:
    """The largest of each element over the behaviors that are there; 0 where there are none."""
    low_GLE = jnp.where(mask_GL[..., None], behavior_GLE, -jnp.inf)
    return jnp.where(jnp.any(mask_GL, axis=1)[:, None], jnp.max(low_GLE, axis=1), 0.0)


class GroupPooling(nnx.Module):
    """Pooling that does not look at the ad, and so is done once a group.

    Args:
      pool: `sum_pooling` or `max_pooling`.
      key_width: ``E``.
    """

    def __init__(self, pool: Callable[[Array, Array], Array], key_width: int):
        self.pool, self.width = pool, key_width

    def __call__(
        self, behavior_GLE: Array, mask_GL: Array, queries: Queries, group_B: Array
    ) -> Array:
        return of_group(self.pool(behavior_GLE, mask_GL), group_B)


class Concatenation(nnx.Module):
    """The newest behaviors side by side, oldest first, zeros behind the last.

    Args:
      key_width: ``E``.
      behaviors: ``N``; older ones are left out.
    """

    def __init__(self, key_width: int, behaviors: int):
        self.behaviors, self.width = behaviors, behaviors * key_width

    def __call__(
        self, behavior_GLE: Array, mask_GL: Array, queries: Queries, group_B: Array
    ) -> Array:
        length_G1 = jnp.sum(mask_GL, axis=1, dtype=jnp.int32)[:, None]
        place_1N = jnp.arange(self.behaviors, dtype=jnp.int32)[None]
        # Behaviors stand at the left of their row, newest last.
        from_GN = place_1N + jnp.maximum(length_G1 - self.behaviors, 0)
        kept_GNE = jnp.take_along_axis(behavior_GLE, from_GN[..., None], axis=1, mode="clip")
        kept_GNE = jnp.where((from_GN < length_G1)[..., None], kept_GNE, 0.0)
        return of_group(flat(kept_GNE), group_B)


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
      unit: makes the weights.
      normalizer: what becomes of them, a key of `NORMALIZERS`.
    """

    def __init__(self, unit: ActivationUnit, normalizer: NormalizerName):
        self.unit = unit
        self.normalize = NORMALIZERS[normalizer]

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        query_BQ: Float[Array, "B Q"],
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B E"]:
        weight_BL = self.weights(behavior_GLE, mask_GL, query_BQ, group_B)
        return weighted_sum(weight_BL, behavior_GLE, group_B)

    def weights(
        self, behavior_GLE: Array, mask_GL: Array, query_BQ: Array, group_B: Array
    ) -> Float[Array, "B L"]:
        """What each behavior counts; zero at padding."""
        there_BL = of_group(mask_GL, group_B)
        return self.normalize(self.unit(behavior_GLE, there_BL, query_BQ, group_B), there_BL)


class MultiQueryAttentivePooling(nnx.Module):
    """Attentive pooling once per query, side by side (paper section 5.2).

    The ad's image asks for one relevance, its IDs (category) for another.

    Args:
      poolings: one for each query, in the order of the queries.
      key_width: ``E``.
      chunk: impressions attended to at a time.
    """

    def __init__(self, poolings: Sequence[AttentivePooling], key_width: int, chunk: int = 256):
        self.poolings, self.chunk = nnx.List(poolings), chunk
        self.width = key_width * len(poolings)

    def __call__(
        self,
        behavior_GLE: Float[Array, "G L E"],
        mask_GL: Bool[Array, "G L"],
        queries: Queries,
        group_B: Int[Array, " B"],
    ) -> Float[Array, "B width"]:
        """Pool once for each query; the output is ``E`` wide for each."""

        def pool(group_B: Array, *queries: Array) -> Array:
            pooled = [
                pooling(behavior_GLE, mask_GL, query_BQ, group_B)
                for pooling, query_BQ in zip(self.poolings, queries, strict=False)
            ]
            return jnp.concatenate(pooled, axis=-1)

        return in_chunks(pool, self.chunk, group_B, *queries[: len(self.poolings)])

    def weights(
        self, behavior_GLE: Array, mask_GL: Array, queries: Queries, group_B: Array
    ) -> list[jax.Array]:
        """What each behavior counts for each query, ``[B, L]``."""
        return [
            pooling.weights(behavior_GLE, mask_GL, query_BQ, group_B)
            for pooling, query_BQ in zip(self.poolings, queries, strict=False)
        ]
