"""A model as pure functions: what runs at the servers, what runs on the workers.

Networks are built with Flax NNX and taken apart once; steps work on plain trees of parameters.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.ams.embedding import Embedder
from dicm_jax.ams.feature_table import ContentRows
from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.compressor import Compressor, OutputNorm, start_from_directions
from dicm_jax.nn.dice import Moment, SumOver, training
from dicm_jax.nn.dicm import DICM
from dicm_jax.nn.inputs import Inputs, place
from dicm_jax.nn.prerank import PreRank
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training.batch import ContentInput, Samples, Side
from dicm_jax.training.state import Params


@dataclasses.dataclass(frozen=True)
class CompressorSpec:
    """Sizes of an embedding model: see `Compressor`."""

    widths: tuple[int, ...] = (256, 64, 12)
    compute_dtype: str = "float32"
    output_norm: OutputNorm = "none"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What is trained.

    Attributes:
      net: the workers' network; its `contents` are what the model sees.
      compressor: every embedding model of the servers.
      content_widths: ``D`` of each content, by name.
      share_compressor: one embedding model for ad and behaviors instead of the paper's two.
      id_scale: standard deviation of new ID rows.
    """

    net: NetSpec
    compressor: CompressorSpec
    content_widths: dict[str, int]
    share_compressor: bool = False
    id_scale: float = 0.01

    @property
    def inputs(self) -> tuple[ContentInput, ...]:
        """Where content is seen and through which embedding model; none for the baseline.

        The image models are called ``ad`` and ``behavior``, or ``image`` where shared; those of
        other content ``ad_text``, ``behavior_text``, ``text``.
        """
        sides: dict[Side, bool] = {
            "ad": self.net.sees_ad_image,
            "behavior": self.net.sees_behavior_images,
        }
        seen = []
        for content in self.net.contents:
            for side, sees in sides.items():
                apart = side if content == IMAGE else f"{side}_{content}"
                if sees:
                    model = content if self.share_compressor else apart
                    seen.append(ContentInput(side, content, model))
        return tuple(seen)

    @property
    def tables(self) -> dict[str, str]:
        """The content, and so the table, that each embedding model reads."""
        return {seen.model: seen.content for seen in self.inputs}


@dataclasses.dataclass(frozen=True)
class Pulled:
    """What the workers' network is given for a batch, on one device.

    Attributes:
      params, moments: of the network.
      ids_KE: pulled ID rows.
      vectors: pulled vectors, by embedding model.
      samples: what stands where.
    """

    params: dict[str, Any]
    moments: dict[str, Any]
    ids_KE: Float[Array, "K E"]
    vectors: dict[str, Array]
    samples: Samples


Read = Callable[[Any, Inputs], Any]
"""Reads something off a network for each impression of its inputs: probabilities, attention."""


def click_probability(net: DICM | PreRank, inputs: Inputs) -> Float[Array, " B"]:
    """``softmax(logits)[click]``."""
    return jax.nn.softmax(net(inputs))[:, 1]


NETS = {"rank": DICM, "prerank": PreRank}


@dataclasses.dataclass(frozen=True)
class Model:
    """Pure functions of a model.

    Attributes:
      embedders: the embedding models, by name.
      net: structure of the workers' network.
      spec: what it was made from.
      first_moments: moving averages of the network's batch statistics at the start; empty where it
        has none.
    """

    embedders: dict[str, Embedder]
    net: nnx.GraphDef
    spec: ModelSpec
    first_moments: dict[str, Any] = dataclasses.field(default_factory=dict)

    def apply(self, read: Read, pulled: Pulled) -> Any:
        """What `read` makes of the network and its inputs, with moving averages: prediction."""
        net = nnx.merge(self.net, pulled.params, pulled.moments)
        return read(net, self._inputs(net, pulled))

    def training_logits(
        self, pulled: Pulled, sum_over: SumOver
    ) -> tuple[Float[Array, "B 2"], dict[str, Any]]:
        """Logits of (no click, click) with the statistics of this batch, and moved averages.

        Args:
          pulled: what the network is given.
          sum_over: adds up what the devices of a batch found.
        """
        net = nnx.merge(self.net, pulled.params, pulled.moments)
        training(net, sum_over)
        logits_B2 = net(self._inputs(net, pulled))
        return logits_B2, nnx.to_pure_dict(nnx.state(net, Moment))

    def _inputs(self, net: DICM | PreRank, pulled: Pulled) -> Inputs:
        ids_KE, vectors, samples = pulled.ids_KE, pulled.vectors, pulled.samples
        ad_BE, behavior_GLE = {}, {}
        for seen in self.spec.inputs:
            name, view = seen.content, net.views[seen.content]
            if seen.side == "ad":
                slots = samples.ad_slot_B[name]
                ad_BE[name] = place(vectors[seen.model], slots, view.no_ad_E[...])
            else:
                slots = samples.behavior_content_slot_GL[name]
                behavior_GLE[name] = place(vectors[seen.model], slots, view.no_behavior_E[...])
        return Inputs(
            user_GFE=place(ids_KE, samples.user_slot_GF),
            impression_BFE=place(ids_KE, samples.impression_slot_BF),
            behavior_ids_GLK=_side_by_side(place(ids_KE, samples.behavior_slot_GLF)),
            ad_BE=ad_BE,
            behavior_GLE=behavior_GLE,
            behavior_mask_GL=samples.behavior_mask_GL,
            group_B=samples.group_B,
            there_B=samples.weight_B > 0,
        )


def build_model(
    spec: ModelSpec,
    seed: int,
    directions: Mapping[str, Float[Array | np.ndarray, "D H"]] = MappingProxyType({}),
) -> tuple[Model, Params]:
    """A model and its initial dense parameters, the same for any mesh.

    Args:
      spec: sizes.
      seed: of the initial parameters.
      directions: where embedding models start (see `start_from_directions`), by content; random
        weights for those without.

    Each part draws from a stream of its own, so that the baseline's network and DICM's start from
    the same seed without one shifting the other.
    """
    made, embedders = {}, {}
    for stream, (name, content) in enumerate(sorted(spec.tables.items())):
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 1 + stream))
        compressor = Compressor(
            spec.content_widths[content],
            spec.compressor.widths,
            compute_dtype=spec.compressor.compute_dtype,
            output_norm=spec.compressor.output_norm,
            rngs=rngs,
        )
        if content in directions:
            start_from_directions(compressor, directions[content])
        graph, params = nnx.split(compressor, nnx.Param)
        made[name] = _embedder(graph, spec.compressor.widths)
        embedders[name] = nnx.to_pure_dict(params)
    rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 0))
    graph, params, moments = nnx.split(NETS[spec.net.stage](spec.net, rngs=rngs), nnx.Param, Moment)
    model = Model(made, graph, spec, nnx.to_pure_dict(moments))
    return model, Params(embedders, nnx.to_pure_dict(params))


def click_loss(
    logits_B2: Float[Array, "B 2"], label_B: Array, weight_B: Float[Array, " B"]
) -> Float[Array, ""]:
    """``sum_b weight_b * -log softmax(logits_b)[label_b]``: cross-entropy, summed."""
    log_p_B2 = jax.nn.log_softmax(logits_B2)
    picked_B = jnp.take_along_axis(log_p_B2, label_B[:, None], axis=1)[:, 0]
    return -jnp.sum(weight_B * picked_B)


def _side_by_side(behavior_GLFE: Array) -> Array:
    return behavior_GLFE.reshape(*behavior_GLFE.shape[:2], -1)


def _embedder(graph: nnx.GraphDef, widths: Sequence[int]) -> Embedder:
    def wide(params: Any, rows: ContentRows) -> Array:
        return nnx.merge(graph, params).wide(rows)

    def narrow(params: Any, hidden_NH: Array) -> Array:
        return nnx.merge(graph, params).narrow(hidden_NH)

    return Embedder(wide, narrow, hidden_width=widths[0], width=widths[-1])
