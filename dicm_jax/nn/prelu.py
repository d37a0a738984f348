"""PReLU, the activation of every hidden layer of DICM, and the initialiser that goes with it."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

INITIAL_SLOPE = 0.25


class PReLU(nnx.Module):
    """``y = max(0, x) + slope * min(0, x)`` with one slope a channel (He et al. 2015).

    Args:
      width: number of channels, the last dim of the input.
    """

    def __init__(self, width: int):
        self.slope = nnx.Param(jnp.full(width, INITIAL_SLOPE, jnp.float32))

    def __call__(self, x: Float[Array, "*batch H"]) -> Float[Array, "*batch H"]:
        slope = self.slope[...].reshape((1,) * (x.ndim - 1) + (-1,))
        return jnp.where(x > 0, x, slope * x)


def he_normal() -> jax.nn.initializers.Initializer:
    """Normal weights with ``std = sqrt(2 / ((1 + slope^2) fan_in))``.

    They keep the variance of activations through PReLU layers.
    """
    scale = 2.0 / (1.0 + math.pow(INITIAL_SLOPE, 2))
    return jax.nn.initializers.variance_scaling(scale, "fan_in", "normal")
