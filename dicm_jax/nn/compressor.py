"""The trainable embedding model that runs at the servers (paper section 5.1, Fig. 2).

    4096 -> 256 -> 64 -> 12,  PReLU after the hidden layers, linear output

It is an ordinary module: any frozen content (image, text, video) can stand behind the same
operator with a compressor of its own. Whether the paper activates the 12-D output is not said;
here it is linear, so that vectors may point anywhere.

Shape legend
    N   rows      D   content width      H   width of a hidden layer      E   embedding width
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from dicm_jax.ams.feature_table import ContentRows
from dicm_jax.nn.frozen_dot import frozen_dot
from dicm_jax.nn.prelu import PReLU, he_normal

OutputNorm = Literal["none", "rms"]


def _as_is(x_NE: Array) -> Array:
    return x_NE


def _unit_mean_square(x_NE: Array) -> Array:
    return x_NE * lax.rsqrt(jnp.mean(jnp.square(x_NE), axis=-1, keepdims=True) + 1e-6)


def _small_glorot() -> jax.nn.initializers.Initializer:
    # Vectors of size one, summed over tens of behaviors, drown the ID rows: the first steps then
    # go into shrinking them (measured on the built-in world: .68 GAUC instead of .72).
    return nnx.initializers.variance_scaling(0.1**2, "fan_avg", "normal")


OUTPUT_NORMS = {"none": _as_is, "rms": _unit_mean_square}


class Compressor(nnx.Module):
    """``rows -> PReLU(rows W1 + b1) -> ... -> linear``.

    Args:
      content_width: ``D``.
      widths: output width of each layer, e.g. ``(256, 64, 12)``; the last is ``E``.
      compute_dtype: of the first, wide product; everything behind it is float32.
      output_norm: ``"rms"`` scales every vector to a mean square of one, so that vectors differ in
        direction only; ``"none"`` leaves them.
      rngs: source of the initial weights (He-normal for PReLU; a tenth of
        Glorot-normal for the output, which gives vectors the size that ID rows soon have).
    """

    def __init__(
        self,
        content_width: int,
        widths: Sequence[int],
        *,
        compute_dtype: str,
        output_norm: OutputNorm = "none",
        rngs: nnx.Rngs,
    ):
        *hidden, width = widths
        self.compute_dtype = jnp.dtype(compute_dtype)
        self.normalize = OUTPUT_NORMS[output_norm]
        self.first_DH = nnx.Param(he_normal()(rngs.params(), (content_width, hidden[0])))
        self.first_bias_H = nnx.Param(jnp.zeros(hidden[0]))
        self.activations = nnx.List([PReLU(width) for width in hidden])
        self.hidden = nnx.List(
            [
                nnx.Linear(fan_in, fan_out, kernel_init=he_normal(), rngs=rngs)
                for fan_in, fan_out in itertools.pairwise(hidden)
            ]
        )
        self.output = nnx.Linear(hidden[-1], width, kernel_init=_small_glorot(), rngs=rngs)

    def __call__(self, rows: ContentRows) -> Float[Array, "N E"]:
        """Vectors of frozen rows: `wide`, then `narrow`."""
        return self.narrow(self.wide(rows))

    def wide(self, rows: ContentRows) -> Float[Array, "N H"]:
        """The product with the first weights: all that touches the content's width.

        The factor of an int8 row is applied behind it.
        """
        product_NH = frozen_dot(rows.value_UD.astype(self.compute_dtype), self.first_DH[...])
        return product_NH if rows.scale_U is None else product_NH * rows.scale_U[:, None]

    def narrow(self, product_NH: Float[Array, "N H"]) -> Float[Array, "N E"]:
        """What follows: first bias and activation, the other layers, the output."""
        x_NH = self.activations[0](product_NH + self.first_bias_H[None, :])
        for layer, activation in zip(self.hidden, self.activations[1:], strict=True):
            x_NH = activation(layer(x_NH))
        return self.normalize(self.output(x_NH))


def start_from_directions(
    compressor: Compressor, directions_DH: Float[Array | np.ndarray, "D H"]
) -> None:
    """Set a compressor to the linear map onto given directions, in place.

    Hidden layers start as the identity on their first channels and PReLU slopes at 1, so the output
    is the row's coordinates along the first ``E`` directions. With whitened principal directions,
    rows that look alike have vectors that point alike before the first step.
    """
    compressor.first_DH[...] = directions_DH
    for activation in compressor.activations:
        activation.slope[...] = jnp.ones_like(activation.slope[...])
    for layer in [*compressor.hidden, compressor.output]:
        rows, columns = layer.kernel.shape
        layer.kernel[...] = jnp.eye(rows, columns)
