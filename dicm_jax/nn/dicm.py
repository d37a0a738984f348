"""DICM for Rank: the network on the workers (paper Fig. 2), and the baseline without images.

    x   = [ID embeddings ; ad image ; pooled behavior images]
    CTR = softmax(FC2(PReLU(FC80(PReLU(FC200(x))))))[click]

The compressed image vectors come from the servers; this network never sees a content row. The
baseline is the same network without the image inputs: ad-image ID and behavior-image IDs are
ordinary ID fields in both, so a gain over it is due to what is *in* the images.

Shape legend
    G   groups     B   impressions     L   behaviors per group     E   embedding width
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.aggregators import (
    Interaction,
    MultiQueryAttentivePooling,
    Normalizer,
    sum_pooling,
)
from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.prelu import PReLU, he_normal

Images = Literal["both", "ad", "behavior", "none"]
"""Which sides of a sample are seen through their images (the paper's Table 3)."""


@dataclasses.dataclass(frozen=True)
class NetSpec:
    """Sizes of the network.

    Attributes:
      user_fields, impression_fields: ID fields of each level.
      behavior_ids: whether behaviors also come as a summed ID field.
      query_fields: positions, among the impression fields, of the fields of the second query.
      embedding_width: ``E`` of IDs and images alike.
      images: which sides are seen through images and other content.
      contents: what they are seen through, each with embedding models, missing vectors and an
        aggregator of its own.
      attention_widths: hidden widths of the activation units.
      interaction: what activation units see.
      normalizer: what becomes of attention weights.
      match: whether the head also sees the product of the ad's image and the behaviors pooled for
        it, element by element: how well the ad's look fits what the user clicked.
      attention_chunk: impressions attended to at a time.
      head_widths: hidden widths of the head.
    """

    user_fields: int
    impression_fields: int
    behavior_ids: bool
    query_fields: tuple[int, ...]
    embedding_width: int = 12
    images: Images = "both"
    contents: tuple[str, ...] = (IMAGE,)
    attention_widths: tuple[int, ...] = (64, 16)
    interaction: Interaction = "concat"
    normalizer: Normalizer = "none"
    match: bool = False
    attention_chunk: int = 256
    head_widths: tuple[int, ...] = (200, 80)

    @property
    def sees_ad_image(self) -> bool:
        return self.images in ("both", "ad")

    @property
    def sees_behavior_images(self) -> bool:
        return self.images in ("both", "behavior")

    @property
    def seen_contents(self) -> tuple[str, ...]:
        return () if self.images == "none" else self.contents

    @property
    def matches(self) -> bool:
        return self.match and self.images == "both"


class Head(nnx.Module):
    """The basic net of the paper, Embedding&MLP: fully connected layers with PReLU, two logits."""

    def __init__(self, fan_in: int, widths: Sequence[int], *, rngs: nnx.Rngs):
        fan_ins = [fan_in, *widths]
        self.hidden = nnx.List(
            [
                nnx.Linear(wide, narrow, kernel_init=he_normal(), rngs=rngs)
                for wide, narrow in zip(fan_ins[:-1], widths, strict=True)
            ]
        )
        self.activations = nnx.List([PReLU(width) for width in widths])
        self.output = nnx.Linear(fan_ins[-1], 2, rngs=rngs)

    def __call__(self, x_BX: Float[Array, "B X"]) -> Float[Array, "B 2"]:
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x_BX = activation(layer(x_BX))
        return self.output(x_BX)


class View(nnx.Module):
    """What one kind of content tells about a sample: the ad's vector, and the behaviors pooled.

    Args:
      spec: sizes.
      rngs: source of the initial weights.
    """

    def __init__(self, spec: NetSpec, *, rngs: nnx.Rngs):
        width = spec.embedding_width
        self.spec = spec
        if spec.sees_ad_image:
            self.no_ad_E = nnx.Param(jnp.zeros(width))
        if spec.sees_behavior_images:
            self.no_behavior_E = nnx.Param(jnp.zeros(width))
            self.aggregator = MultiQueryAttentivePooling(
                width,
                _query_widths(spec),
                spec.attention_widths,
                interaction=spec.interaction,
                normalizer=spec.normalizer,
                chunk=spec.attention_chunk,
                rngs=rngs,
            )

    def __call__(self, inputs: Inputs, content: str) -> list[jax.Array]:
        """The parts of the head's input that come from `content`."""
        parts = [inputs.ad_BE[content]] if self.spec.sees_ad_image else []
        if not self.spec.sees_behavior_images:
            return parts
        queries = parts + self._id_queries(inputs)
        pooled = self.aggregator(
            inputs.behavior_GLE[content], inputs.behavior_mask_GL, queries, inputs.group_B
        )
        parts = [*parts, pooled]
        if self.spec.matches:
            parts.append(inputs.ad_BE[content] * pooled[:, : self.spec.embedding_width])
        return parts

    def _id_queries(self, inputs: Inputs) -> list[jax.Array]:
        fields = list(self.spec.query_fields)
        return [_flat(inputs.impression_BFE[:, fields])] if fields else []


class DICM(nnx.Module):
    """The worker's network.

    Args:
      spec: sizes.
      rngs: source of the initial weights.
    """

    def __init__(self, spec: NetSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        sees = spec.seen_contents
        self.views = nnx.Dict({content: View(spec, rngs=rngs) for content in sees})
        width = spec.embedding_width
        of_ids = spec.user_fields + spec.impression_fields + spec.behavior_ids
        of_view = spec.sees_ad_image + spec.matches
        if spec.sees_behavior_images:
            of_view += len(_query_widths(spec))
        fan_in = width * (of_ids + of_view * len(sees))
        self.head = Head(fan_in, spec.head_widths, rngs=rngs)

    def __call__(self, inputs: Inputs) -> Float[Array, "B 2"]:
        """Logits of (no click, click) for each impression."""
        parts = [
            _flat(inputs.user_GFE)[inputs.group_B],
            _flat(inputs.impression_BFE),
        ]
        if self.spec.behavior_ids:
            parts.append(
                sum_pooling(inputs.behavior_id_GLE, inputs.behavior_mask_GL)[inputs.group_B]
            )
        for content in self.spec.seen_contents:
            parts += self.views[content](inputs, content)
        return self.head(jnp.concatenate(parts, axis=-1))


def _query_widths(spec: NetSpec) -> list[int]:
    """Width of each query: the ad's vector, then the chosen ID fields side by side."""
    width = spec.embedding_width
    from_content = [width] if spec.sees_ad_image else []
    from_ids = [width * len(spec.query_fields)] if spec.query_fields else []
    return from_content + from_ids


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)
