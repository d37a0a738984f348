"""Pre-rank DICM: two towers that meet in an inner product (paper section 6, Fig. 4).

    u = FC10(FC200([user IDs ; behavior IDs, summed ; behavior images, summed]))
    v = FC10(FC200([ad IDs ; ad image]))
    CTR = sigmoid(u . v)

Nothing of the user meets anything of the ad before the product, so both vectors can be computed
ahead, and what is left online is the product. That is why behaviors are summed and not attended to.

Shape legend
    G   groups     B   impressions     P   width of the towers' vectors
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.nn.aggregators import sum_pooling
from dicm_jax.nn.basic_nets import Head, summed_behavior_ids
from dicm_jax.nn.inputs import Inputs, flat
from dicm_jax.nn.spec import NetSpec
from dicm_jax.nn.view import Missing


class PreRank(nnx.Module):
    """The worker's network.

    Args:
      spec: sizes; `NetSpec.aggregator` and what concerns Rank alone are not looked at.
      rngs: source of the initial weights.
    """

    def __init__(self, spec: NetSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.views = nnx.Dict({content: Missing(spec) for content in spec.seen_contents})
        contents = len(spec.seen_contents)
        id_width, vector_width = spec.embedding_width, spec.vector_width * contents
        of_user = id_width * (spec.user_fields + len(spec.pooled_fields))
        of_user += vector_width * spec.sees_behavior_images
        of_ad = id_width * spec.impression_fields + vector_width * spec.sees_ad_image
        *hidden, outputs = spec.tower_widths
        self.user_tower = Head(of_user, hidden, outputs, rngs=rngs)
        self.ad_tower = Head(of_ad, hidden, outputs, rngs=rngs)

    def __call__(self, inputs: Inputs) -> Float[Array, "B 2"]:
        """Logits of (no click, click) for each impression: 0, and the inner product."""
        user_BP = self.user_vectors(inputs)[inputs.group_B]
        click_B = jnp.sum(user_BP * self.ad_vectors(inputs), axis=-1)
        return jnp.stack([jnp.zeros_like(click_B), click_B], axis=-1)

    def user_vectors(self, inputs: Inputs) -> Float[Array, "G P"]:
        """``u``, once a group, from what is known of the user alone."""
        parts = [flat(inputs.user_GFE), summed_behavior_ids(inputs, self.spec.pooled_fields)]
        if self.spec.sees_behavior_images:
            parts += [
                sum_pooling(inputs.behavior_GLE[content], inputs.behavior_mask_GL)
                for content in self.views
            ]
        return self.user_tower(jnp.concatenate(parts, axis=-1))

    def ad_vectors(self, inputs: Inputs) -> Float[Array, "B P"]:
        """``v``, from what is known of the ad and its scenario alone."""
        parts = [flat(inputs.impression_BFE)]
        if self.spec.sees_ad_image:
            parts += [inputs.ad_BE[content] for content in self.views]
        return self.ad_tower(jnp.concatenate(parts, axis=-1))
