"""What one kind of content tells about a sample: the ad's vector, and the behaviors pooled.

Shape legend
    B   impressions     E   embedding width
"""

import jax
import jax.numpy as jnp
from flax import nnx

from dicm_jax.nn.activation_unit import ActivationUnit
from dicm_jax.nn.aggregators import (
    Aggregator,
    AttentivePooling,
    Concatenation,
    GroupPooling,
    MultiQueryAttentivePooling,
    max_pooling,
    sum_pooling,
)
from dicm_jax.nn.inputs import Inputs, flat
from dicm_jax.nn.similarity import SimilarityKernels
from dicm_jax.nn.spec import NetSpec


class Missing(nnx.Module):
    """Trainable vectors for items without this content, one a side."""

    def __init__(self, spec: NetSpec):
        if spec.sees_ad_image:
            self.no_ad_E = nnx.Param(jnp.zeros(spec.vector_width))
        if spec.sees_behavior_images:
            self.no_behavior_E = nnx.Param(jnp.zeros(spec.vector_width))


class View(Missing):
    """The parts of a basic net's input that come from one content.

    Args:
      spec: sizes.
      rngs: source of the initial weights.

    Attributes:
      width: of all parts together.
    """

    def __init__(self, spec: NetSpec, *, rngs: nnx.Rngs):
        super().__init__(spec)
        self.spec = spec
        self.width = spec.embedding_width * (spec.sees_ad_image + spec.matches)
        if spec.sees_behavior_images:
            self.aggregator = new_aggregator(spec, rngs=rngs)
            self.width += self.aggregator.width
        if spec.compares:
            self.similarity = SimilarityKernels(spec.attention_chunk)
            self.width += self.similarity.width

    def __call__(self, inputs: Inputs, content: str) -> list[jax.Array]:
        parts = [self._first(inputs.ad_BE[content])] if self.spec.sees_ad_image else []
        if not self.spec.sees_behavior_images:
            return parts
        pooled = self.aggregator(*self._pooled(inputs, content))
        parts = [*parts, pooled]
        if self.spec.matches:
            parts.append(parts[0] * self._first(pooled))
        if self.spec.compares:
            ad_BE, behavior_GLE = inputs.ad_BE[content], inputs.behavior_GLE[content]
            mask_GL, group_B = inputs.behavior_mask_GL, inputs.group_B
            parts.append(self.similarity(ad_BE, behavior_GLE, mask_GL, group_B))
        return parts

    def _first(self, x: jax.Array) -> jax.Array:
        """The first elements of vectors, as many as the paper's net sees."""
        return x[..., : self.spec.embedding_width]

    def attention(self, inputs: Inputs, content: str) -> dict[str, jax.Array]:
        """Weights ``[B, L]`` by query; none where behaviors are pooled without attention."""
        if not self.spec.sees_behavior_images:
            return {}
        if not isinstance(self.aggregator, MultiQueryAttentivePooling):
            return {}
        weights = self.aggregator.weights(*self._pooled(inputs, content))
        return dict(zip(self.spec.query_names, weights, strict=False))

    def _pooled(self, inputs: Inputs, content: str) -> tuple:
        """What the aggregator is given."""
        fields = list(self.spec.query_fields)
        queries = [self._first(inputs.ad_BE[content])] if self.spec.sees_ad_image else []
        queries += [flat(inputs.impression_BFE[:, fields])] if fields else []
        behavior_GLE = self._first(inputs.behavior_GLE[content])
        return behavior_GLE, inputs.behavior_mask_GL, queries, inputs.group_B


def new_aggregator(spec: NetSpec, *, rngs: nnx.Rngs) -> Aggregator:
    """The aggregator that `spec` names, with new parameters.

    The product of `interaction` needs a query as wide as a behavior; where it is not, the two are
    concatenated only.
    """
    width = spec.embedding_width
    match spec.aggregator:
        case "concat":
            return Concatenation(width, spec.concat_behaviors)
        case "sum":
            return GroupPooling(sum_pooling, width)
        case "max":
            return GroupPooling(max_pooling, width)
        case "attentive":
            query_widths = spec.query_widths[:1]
        case "multi_query":
            query_widths = spec.query_widths
    poolings = [_attentive(spec, query_width, rngs) for query_width in query_widths]
    return MultiQueryAttentivePooling(poolings, width, spec.attention_chunk)


def _attentive(spec: NetSpec, query_width: int, rngs: nnx.Rngs) -> AttentivePooling:
    width = spec.embedding_width
    fits = spec.interaction != "product" or query_width == width
    unit = ActivationUnit(
        width,
        query_width,
        spec.attention_widths,
        interaction=spec.interaction if fits else "concat",
        rngs=rngs,
    )
    return AttentivePooling(unit, spec.normalizer)
