"""Sizes and parts of the workers' network."""

import dataclasses
from typing import Literal

from dicm_jax.ams.keys import IMAGE
from dicm_jax.nn.activation_unit import InteractionName
from dicm_jax.nn.aggregators import AggregatorName, NormalizerName

Images = Literal["both", "ad", "behavior", "none"]
"""Which sides of a sample are seen through their images (the paper's Table 3)."""
Stage = Literal["rank", "prerank"]
BasicNetName = Literal["embedding_mlp", "lr", "din"]
DinActivation = Literal["dice", "prelu", "sigmoid"]


@dataclasses.dataclass(frozen=True)
class NetSpec:
    """Sizes and parts of the network.

    Attributes:
      user_fields, impression_fields: ID fields of each level.
      behavior_targets: for each ID field of behaviors, the position among the impression fields of
        the field that says the same of the ad.
      query_fields: positions, among the impression fields, of the fields of the second query.
      embedding_width: ``E`` of IDs, and of images where the paper's net sees them.
      vector_width: of the vectors that servers send; of more than ``E`` elements, aggregator and
        head see the first ``E``, and `similarity` all.
      images: which sides are seen through images and other content.
      contents: what they are seen through, each with embedding models, missing vectors and an
        aggregator of its own.
      stage: Rank, or Pre-rank, whose users and ads meet in an inner product only.
      aggregator: pooling of behavior images.
      attention_widths: hidden widths of the activation units.
      interaction: what activation units see beside behavior and query.
      normalizer: what becomes of attention weights.
      attention_chunk: impressions attended to at a time.
      concat_behaviors: behaviors that the aggregator ``concat`` keeps.
      match: whether the net also sees the product of the ad's image and the behaviors pooled for
        it, element by element: how well the ad's look fits what the user clicked.
      similarity: whether the net also sees how alike the ad's image and those of behaviors are
        (`dicm_jax.nn.similarity`).
      match_fields: positions, among the ID fields of behaviors, of those that are compared to the
        ad's (`dicm_jax.nn.id_matches`) instead of summed or attended to.
      basic_net: what takes all embeddings together.
      head_widths: hidden widths of Embedding&MLP and DIN.
      din_widths: hidden widths of DIN's activation unit over behavior IDs.
      din_interaction: what it sees beside behavior and query.
      din_normalizer: what becomes of its weights.
      din_activation: in DIN's unit and head.
      tower_widths: of the two towers of Pre-rank; the last is that of the vectors.
    """

    user_fields: int
    impression_fields: int
    behavior_targets: tuple[int, ...]
    query_fields: tuple[int, ...]
    embedding_width: int = 12
    vector_width: int = 12
    images: Images = "both"
    contents: tuple[str, ...] = (IMAGE,)
    stage: Stage = "rank"
    aggregator: AggregatorName = "multi_query"
    attention_widths: tuple[int, ...] = (64, 16)
    interaction: InteractionName = "concat"
    normalizer: NormalizerName = "none"
    attention_chunk: int = 256
    concat_behaviors: int = 32
    match: bool = False
    similarity: bool = False
    match_fields: tuple[int, ...] = ()
    basic_net: BasicNetName = "embedding_mlp"
    head_widths: tuple[int, ...] = (200, 80)
    din_widths: tuple[int, ...] = (36,)
    din_interaction: InteractionName = "product"
    din_normalizer: NormalizerName = "none"
    din_activation: DinActivation = "dice"
    tower_widths: tuple[int, ...] = (200, 10)

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

    @property
    def compares(self) -> bool:
        return self.similarity and self.images == "both"

    @property
    def pooled_fields(self) -> tuple[int, ...]:
        """ID fields of behaviors that the basic net pools."""
        fields = range(len(self.behavior_targets))
        return tuple(field for field in fields if field not in self.match_fields)

    @property
    def query_widths(self) -> tuple[int, ...]:
        """Width of each query: the ad's vector, then the chosen ID fields side by side."""
        from_content = (self.embedding_width,) if self.sees_ad_image else ()
        from_ids = (self.embedding_width * len(self.query_fields),) if self.query_fields else ()
        return from_content + from_ids

    @property
    def query_names(self) -> tuple[str, ...]:
        """What each query is made of: ``"image"``, ``"ids"``."""
        return ("image",) * self.sees_ad_image + ("ids",) * bool(self.query_fields)
