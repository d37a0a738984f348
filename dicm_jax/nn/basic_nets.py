"""Basic nets: what takes IDs and image vectors together (the paper's section 7.4 and Fig. 5).

All have one interface: embedded inputs and what was seen through content in, two logits out. They
differ in what they make of behavior IDs and of the concatenation:

    lr              sums behavior IDs;              linear
    embedding_mlp   sums behavior IDs;              FC200, FC80 with PReLU
    din             attends to behavior IDs (Dice); FC200, FC80 with Dice

Shape legend
    B   impressions     X   width of the concatenation     K   width of all IDs of a behavior
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dicm_jax.nn.activation_unit import ActivationUnit
from dicm_jax.nn.aggregators import AttentivePooling, sum_pooling
from dicm_jax.nn.dice import ACTIVATIONS
from dicm_jax.nn.inputs import Inputs, behavior_ids, flat
from dicm_jax.nn.of_groups import of_group
from dicm_jax.nn.prelu import he_normal
from dicm_jax.nn.spec import NetSpec


@runtime_checkable
class BasicNet(Protocol):
    """Logits from everything that is known of an impression."""

    def __call__(self, inputs: Inputs, seen: Sequence[Array]) -> Float[Array, "B 2"]:
        """Logits of (no click, click); `seen` is what content tells, ``[B, ...]`` each."""
        ...


class Head(nnx.Module):
    """Fully connected layers with an activation between them, linear output.

    Args:
      fan_in: ``X``.
      widths: hidden widths.
      outputs: width of the output.
      activation: a key of `ACTIVATIONS`.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        fan_in: int,
        widths: Sequence[int],
        outputs: int = 2,
        *,
        activation: str = "prelu",
        rngs: nnx.Rngs,
    ):
        fan_ins = [fan_in, *widths]
        self.hidden = nnx.List(
            [
                nnx.Linear(wide, narrow, kernel_init=he_normal(), rngs=rngs)
                for wide, narrow in zip(fan_ins[:-1], widths, strict=True)
            ]
        )
        self.activations = nnx.List([ACTIVATIONS[activation](width) for width in widths])
        self.output = nnx.Linear(fan_ins[-1], outputs, rngs=rngs)

    def __call__(
        self, x_BX: Float[Array, "B X"], there_B: Bool[Array, " B"] | None = None
    ) -> Float[Array, "B Y"]:
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x_BX = activation(layer(x_BX), there_B)
        return self.output(x_BX)


def id_parts(inputs: Inputs) -> list[jax.Array]:
    """Embeddings of user and impression, ``[B, ...]`` each."""
    return [of_group(flat(inputs.user_GFE), inputs.group_B), flat(inputs.impression_BFE)]


def summed_behavior_ids(inputs: Inputs, fields: Sequence[int]) -> Float[Array, "G K"]:
    """Behaviors' IDs of these fields, each summed."""
    return sum_pooling(behavior_ids(inputs, fields), inputs.behavior_mask_GL)


class EmbeddingMLP(nnx.Module):
    """The paper's basic net (Fig. 2): all embeddings side by side, then fully connected layers.

    Args:
      spec: sizes.
      seen_width: width of what is seen through content.
      rngs: source of the initial weights.
    """

    def __init__(self, spec: NetSpec, seen_width: int, *, rngs: nnx.Rngs):
        self.fields = spec.pooled_fields
        self.head = Head(_id_width(spec) + seen_width, spec.head_widths, rngs=rngs)

    def __call__(self, inputs: Inputs, seen: Sequence[Array]) -> Float[Array, "B 2"]:
        pooled_BK = of_group(summed_behavior_ids(inputs, self.fields), inputs.group_B)
        x_BX = jnp.concatenate([*id_parts(inputs), pooled_BK, *seen], axis=-1)
        return self.head(x_BX, inputs.there_B)


class LogisticRegression(nnx.Module):
    """Linear in every ID and in what content tells: an ID's weight is ``v . e`` of its embedding.

    Args:
      spec, seen_width, rngs: as for `EmbeddingMLP`.
    """

    def __init__(self, spec: NetSpec, seen_width: int, *, rngs: nnx.Rngs):
        self.fields = spec.pooled_fields
        self.linear = nnx.Linear(_id_width(spec) + seen_width, 2, rngs=rngs)

    def __call__(self, inputs: Inputs, seen: Sequence[Array]) -> Float[Array, "B 2"]:
        pooled_BK = of_group(summed_behavior_ids(inputs, self.fields), inputs.group_B)
        return self.linear(jnp.concatenate([*id_parts(inputs), pooled_BK, *seen], axis=-1))


class DIN(nnx.Module):
    """Deep Interest Network (Zhou et al. 2018): behavior IDs weighted by those of the ad; Dice.

    A behavior is all its ID fields side by side, the query the same fields of the ad. Attention is
    over all impressions of a device at once, since Dice looks at the whole batch.

    Args:
      spec, seen_width, rngs: as for `EmbeddingMLP`.
    """

    def __init__(self, spec: NetSpec, seen_width: int, *, rngs: nnx.Rngs):
        self.fields = spec.pooled_fields
        self.targets = tuple(spec.behavior_targets[field] for field in self.fields)
        width = spec.embedding_width * len(self.fields)
        unit = ActivationUnit(
            width,
            width,
            spec.din_widths,
            interaction=spec.din_interaction,
            activation=spec.din_activation,
            rngs=rngs,
        )
        self.pooling = AttentivePooling(unit, spec.din_normalizer)
        self.head = Head(
            _id_width(spec) + seen_width,
            spec.head_widths,
            activation=spec.din_activation,
            rngs=rngs,
        )

    def __call__(self, inputs: Inputs, seen: Sequence[Array]) -> Float[Array, "B 2"]:
        pooled_BK = self.pooling(
            behavior_ids(inputs, self.fields),
            inputs.behavior_mask_GL,
            flat(inputs.impression_BFE[:, list(self.targets)]),
            inputs.group_B,
        )
        x_BX = jnp.concatenate([*id_parts(inputs), pooled_BK, *seen], axis=-1)
        return self.head(x_BX, inputs.there_B)


def _id_width(spec: NetSpec) -> int:
    fields = spec.user_fields + spec.impression_fields + len(spec.pooled_fields)
    return spec.embedding_width * fields


BASIC_NETS = {"embedding_mlp": EmbeddingMLP, "lr": LogisticRegression, "din": DIN}
