"""DICM for Rank: the network on the workers (paper Fig. 2), and the baseline without images.

    x   = [ID embeddings ; ad image ; pooled behavior images]
    CTR = softmax(basic net(x))[click]

The compressed image vectors come from the servers; this network never sees a content row. The
baseline is the same network without the image inputs: ad-image ID and behavior-image IDs are
ordinary ID fields in both, so a gain over it is due to what is *in* the images.

Shape legend
    B   impressions     L   behaviors per group
"""

import jax
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.nn.basic_nets import BASIC_NETS
from dicm_jax.nn.id_matches import IdMatches
from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.spec import NetSpec
from dicm_jax.nn.view import View


class DICM(nnx.Module):
    """The worker's network.

    Args:
      spec: sizes and parts.
      rngs: source of the initial weights.
    """

    def __init__(self, spec: NetSpec, *, rngs: nnx.Rngs):
        self.views = nnx.Dict({content: View(spec, rngs=rngs) for content in spec.seen_contents})
        self.id_matches = IdMatches(spec)
        seen_width = self.id_matches.width + sum(view.width for view in self.views.values())
        self.basic_net = BASIC_NETS[spec.basic_net](spec, seen_width, rngs=rngs)

    def __call__(self, inputs: Inputs) -> Float[Array, "B 2"]:
        """Logits of (no click, click) for each impression."""
        seen = [self.id_matches(inputs)]
        for content, view in self.views.items():
            seen += view(inputs, content)
        return self.basic_net(inputs, seen)

    def attention(self, inputs: Inputs) -> dict[str, Float[jax.Array, "B L"]]:
        """What each behavior counts for each impression, by content and query: ``image/ids``."""
        return {
            f"{content}/{query}": weights_BL
            for content, view in self.views.items()
            for query, weights_BL in view.attention(inputs, content).items()
        }
