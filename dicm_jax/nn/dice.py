"""Dice, DIN's activation: a gate that stands where the data stand (Zhou et al. 2018, section 5.3).

    f(s) = p(s) s + (1 - p(s)) slope s,   p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))

In training ``E`` and ``Var`` are those of the whole batch, over all devices and without padding; in
prediction they are moving averages, so that a score does not depend on its batch. With mean 0 and
a variance of 0 the gate is a step and Dice is PReLU.

Shape legend
    H   channels
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from dicm_jax.nn.prelu import PReLU

SumOver = Callable[[Any], Any]
"""Sums what the devices found of one batch; the identity where one device has all of it."""


class Moment(nnx.Variable):
    """A moving average that training keeps and no gradient moves."""


@runtime_checkable
class Activation(Protocol):
    """An activation with parameters of its own, on the last dim."""

    def __call__(self, x: Array, there: Array | None = None) -> Array:
        """Activate; `there` is False at padding, which must not count in what is averaged."""
        ...


class Dice(nnx.Module):
    """The activation.

    Args:
      width: ``H``.
      decay: of the moving averages, a batch.
      eps: added to the variance.

    Attributes:
      sum_over: set for training (see `training`); None uses the moving averages.
    """

    def __init__(self, width: int, *, decay: float = 0.9, eps: float = 1e-8):
        self.decay, self.eps = decay, eps
        self.slope = nnx.Param(jnp.zeros(width, jnp.float32))
        self.mean = Moment(jnp.zeros(width, jnp.float32))
        self.variance = Moment(jnp.ones(width, jnp.float32))
        self.sum_over: SumOver | None = None

    def __call__(
        self, x: Float[Array, "*batch H"], there: Bool[Array, "*batch"] | None = None
    ) -> Float[Array, "*batch H"]:
        x_NH = x.reshape(-1, x.shape[-1])
        there_N1 = jnp.ones((len(x_NH), 1)) if there is None else there.reshape(-1, 1)
        mean_H, variance_H = self._moments(x_NH, there_N1.astype(jnp.float32))
        scale_H = jax.lax.rsqrt(variance_H + self.eps)
        gate_NH = jax.nn.sigmoid((x_NH - mean_H[None]) * scale_H[None])
        return (x_NH * (gate_NH + (1.0 - gate_NH) * self.slope[...][None])).reshape(x.shape)

    def _moments(self, x_NH: Array, there_N1: Array) -> tuple[Array, Array]:
        if self.sum_over is None:
            return self.mean[...], self.variance[...]
        found = self.sum_over(jnp.sum(there_N1))
        total = jnp.maximum(found, 1.0)
        mean_H = self.sum_over(_sum_of_rows(there_N1, x_NH)) / total
        squares_NH = jnp.square(x_NH - mean_H[None])
        variance_H = self.sum_over(_sum_of_rows(there_N1, squares_NH)) / total
        self.mean[...] = self._moved(self.mean[...], mean_H, found)
        self.variance[...] = self._moved(self.variance[...], variance_H, found)
        return mean_H, variance_H

    def _moved(self, average_H: Array, of_batch_H: Array, found: Array) -> Array:
        of_batch_H = jax.lax.stop_gradient(of_batch_H)
        # A batch of padding alone, such as one without any behavior, tells nothing.
        moved_H = self.decay * average_H + (1.0 - self.decay) * of_batch_H
        return jnp.where(found > 0, moved_H, average_H)


def _sum_of_rows(weight_N1: Array, x_NH: Array) -> Array:
    # As a product: XLA:CPU sums columns of a tall array one thread at a time, far more slowly.
    return jnp.matmul(weight_N1.T, x_NH, precision="highest")[0]


class Sigmoid(nnx.Module):
    """The logistic function, which public DIN code puts between the layers of its attention."""

    def __init__(self, width: int):
        del width  # no parameters; activations are all made alike

    def __call__(self, x: Array, there: Array | None = None) -> Array:
        return jax.nn.sigmoid(x)


ACTIVATIONS: dict[str, Callable[[int], Activation]] = {
    "prelu": PReLU,
    "dice": Dice,
    "sigmoid": Sigmoid,
}


def training(net: nnx.Module, sum_over: SumOver) -> None:
    """Make a network's batch statistics those of the batch at hand, in place.

    Args:
      net: the network.
      sum_over: adds up what devices found.
    """
    for _, module in nnx.iter_graph(net):
        if isinstance(module, Dice):
            module.sum_over = sum_over
