"""The trainable embedding model that runs at the servers (paper section 5.1, Fig. 2).

    4096 -> 256 -> 64 -> 12,  PReLU after the hidden layers, linear output

It is an ordinary module: any frozen content (image, text, video) can stand behind the same
operator with a compressor of its own. Whether the paper activates the 12-D output is not said;
here it is linear, so that vectors may point anywhere.

Shape legend
    N   rows      D   content width      H   width of a hidden layer      E   embedding width
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from dicm_jax.ams.feature_table import ContentRows
from dicm_jax.nn.frozen_dot import frozen_dot
from dicm_jax.nn.prelu import PReLU, he_normal


class Compressor(nnx.Module):
    """``rows -> PReLU(rows W1 + b1) -> ... -> linear``.

    Args:
      content_width: ``D``.
      widths: output width of each layer, e.g. ``(256, 64, 12)``; the last is ``E``.
      compute_dtype: of the first, wide product; everything behind it is float32.
      rngs: source of the initial weights (He-normal for PReLU; Glorot-normal for the output).
    """

    def __init__(
        self, content_width: int, widths: Sequence[int], *, compute_dtype: str, rngs: nnx.Rngs
    ):
        *hidden, width = widths
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.first_DH = nnx.Param(he_normal()(rngs.params(), (content_width, hidden[0])))
        self.first_bias_H = nnx.Param(jnp.zeros(hidden[0]))
        self.activations = nnx.List([PReLU(width) for width in hidden])
        self.hidden = nnx.List(
            [
                nnx.Linear(fan_in, fan_out, kernel_init=he_normal(), rngs=rngs)
                for fan_in, fan_out in zip(hidden[:-1], hidden[1:], strict=True)
            ]
        )
        self.output = nnx.Linear(
            hidden[-1], width, kernel_init=nnx.initializers.glorot_normal(), rngs=rngs
        )

    def __call__(self, rows: ContentRows) -> Float[Array, "N E"]:
        """Vectors of frozen rows. The factor of an int8 row is applied behind the wide product."""
        product_NH = frozen_dot(rows.value_UD.astype(self.compute_dtype), self.first_DH[...])
        if rows.scale_U is not None:
            product_NH *= rows.scale_U[:, None]
        x_NH = self.activations[0](product_NH + self.first_bias_H)
        for layer, activation in zip(self.hidden, self.activations[1:], strict=True):
            x_NH = activation(layer(x_NH))
        return self.output(x_NH)
