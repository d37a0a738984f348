"""PReLU, the activation of every hidden layer of DICM, and the initialiser that goes with it."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

INITIAL_SLOPE = 0.25


class PReLU(nnx.Module):
    """``y = max(0, x) + slope * min(0, x)`` with one slope a channel (He et al. 2015).

    Args:
      width: number of channels, the last dim of the input.
    """

    def __init__(self, width: int):
        self.slope = nnx.Param(jnp.full(width, INITIAL_SLOPE, jnp.float32))

    def __call__(
        self, x: Float[Array, "*batch H"], there: Bool[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch H"]:
        """Activate; `there`, which is False at padding, is for activations that look at a batch."""
        return _prelu(x, self.slope[...])


@jax.custom_vjp
def _prelu(x: Array, slope_H: Array) -> Array:
    return jnp.where(x > 0, x, x * _last_dim(slope_H, x.ndim))


def _forward(x: Array, slope_H: Array) -> tuple[Array, tuple[Array, Array]]:
    return _prelu(x, slope_H), (x, slope_H)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The gradient that JAX would take, with the sum over rows as a product with ones.

    XLA:CPU sums columns of a tall array one thread at a time, in a pass of its own: attention,
    which is mostly PReLU, is a quarter faster so.
    """
    x, slope_H = kept
    below = (gradient * jnp.minimum(x, 0.0)).reshape(-1, x.shape[-1])
    ones = jnp.ones((1, len(below)), below.dtype)
    slope_gradient_H = jnp.matmul(ones, below, precision="highest")[0]
    return jnp.where(x > 0, gradient, gradient * _last_dim(slope_H, x.ndim)), slope_gradient_H


_prelu.defvjp(_forward, _backward)


def _last_dim(slope_H: Array, ndim: int) -> Array:
    return slope_H.reshape((1,) * (ndim - 1) + (-1,))


def he_normal() -> jax.nn.initializers.Initializer:
    """Normal weights with ``std = sqrt(2 / ((1 + slope^2) fan_in))``.

    They keep the variance of activations through PReLU layers.
    """
    scale = 2.0 / (1.0 + math.pow(INITIAL_SLOPE, 2))
    return jax.nn.initializers.variance_scaling(scale, "fan_in", "normal")
