"""A model as pure functions: what runs at the servers, what runs on the workers.

Networks are built with Flax NNX and taken apart once; steps work on plain trees of parameters.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.ams.content import Embed
from dicm_jax.ams.feature_table import ContentRows
from dicm_jax.nn.compressor import Compressor, OutputNorm, start_from_directions
from dicm_jax.nn.dicm import DICM, NetSpec
from dicm_jax.nn.inputs import Inputs, place
from dicm_jax.training.batch import Batch, ImageModels
from dicm_jax.training.state import Params


@dataclasses.dataclass(frozen=True)
class CompressorSpec:
    """Sizes of an embedding model: see `Compressor`."""

    content_width: int = 4096
    widths: tuple[int, ...] = (256, 64, 12)
    compute_dtype: str = "float32"
    output_norm: OutputNorm = "none"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What is trained.

    Attributes:
      net: the workers' network.
      compressor: every embedding model of the servers.
      share_compressor: one embedding model for ad and behaviors instead of the paper's two.
      id_scale: standard deviation of new ID rows.
    """

    net: NetSpec
    compressor: CompressorSpec
    share_compressor: bool = False
    id_scale: float = 0.01

    @property
    def image_models(self) -> ImageModels:
        """Which embedding model sees which input; empty for the baseline without images."""
        sides = []
        if self.net.sees_ad_image:
            sides.append("ad")
        if self.net.sees_behavior_images:
            sides.append("behavior")
        return {side: "image" if self.share_compressor else side for side in sides}


@dataclasses.dataclass(frozen=True)
class Model:
    """Pure functions of a model, and the parameters it starts from.

    Attributes:
      embed: the servers' embedding models, by name.
      net: structure of the workers' network.
      spec: what it was made from.
    """

    embed: dict[str, Embed]
    net: nnx.GraphDef
    spec: ModelSpec

    def logits(
        self,
        net_params: dict[str, Any],
        ids_KE: Float[Array, "K E"],
        vectors: dict[str, Array],
        batch: Batch,
    ) -> Float[Array, "B 2"]:
        """Logits of (no click, click) from pulled rows and vectors."""
        net = nnx.merge(self.net, net_params)
        return net(self._inputs(net, ids_KE, vectors, batch))

    def _inputs(self, net: DICM, ids_KE: Array, vectors: dict[str, Array], batch: Batch) -> Inputs:
        ad_image_BE = behavior_image_GLE = None
        models = self.spec.image_models
        if "ad" in models:
            ad_image_BE = place(
                vectors[models["ad"]], batch.ad_image_slot_B, net.no_ad_image_E[...]
            )
        if "behavior" in models:
            behavior_image_GLE = place(
                vectors[models["behavior"]],
                batch.behavior_image_slot_GL,
                net.no_behavior_image_E[...],
            )
        return Inputs(
            user_GFE=place(ids_KE, batch.user_slot_GF),
            impression_BFE=place(ids_KE, batch.impression_slot_BF),
            behavior_id_GLE=place(ids_KE, batch.behavior_slot_GL),
            ad_image_BE=ad_image_BE,
            behavior_image_GLE=behavior_image_GLE,
            behavior_mask_GL=batch.behavior_mask_GL,
            group_B=batch.group_B,
        )


def build_model(
    spec: ModelSpec, seed: int, directions_DH: Float[Array | np.ndarray, "D H"] | None = None
) -> tuple[Model, Params]:
    """A model and its initial dense parameters, the same for any mesh.

    Args:
      spec: sizes.
      seed: of the initial parameters.
      directions_DH: where embedding models start (see `start_from_directions`); None for random
        weights.

    Each part draws from a stream of its own, so that the baseline's network and DICM's start from
    the same seed without one shifting the other.
    """
    embed, embedders = {}, {}
    for stream, name in enumerate(sorted(set(spec.image_models.values()))):
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 1 + stream))
        compressor = Compressor(
            spec.compressor.content_width,
            spec.compressor.widths,
            compute_dtype=spec.compressor.compute_dtype,
            output_norm=spec.compressor.output_norm,
            rngs=rngs,
        )
        if directions_DH is not None:
            start_from_directions(compressor, directions_DH)
        graph, params = nnx.split(compressor, nnx.Param)
        embed[name] = _embed_with(graph)
        embedders[name] = nnx.to_pure_dict(params)
    net = DICM(spec.net, rngs=nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 0)))
    graph, params = nnx.split(net, nnx.Param)
    return Model(embed, graph, spec), Params(embedders, nnx.to_pure_dict(params))


def click_loss(
    logits_B2: Float[Array, "B 2"], label_B: Array, weight_B: Float[Array, " B"]
) -> Float[Array, ""]:
    """``sum_b weight_b * -log softmax(logits_b)[label_b]``: cross-entropy, summed."""
    log_p_B2 = jax.nn.log_softmax(logits_B2)
    picked_B = jnp.take_along_axis(log_p_B2, label_B[:, None], axis=1)[:, 0]
    return -jnp.sum(weight_B * picked_B)


def _embed_with(graph: nnx.GraphDef) -> Embed:
    def embed(params: Any, rows: ContentRows) -> Array:
        return nnx.merge(graph, params)(rows)

    return embed
