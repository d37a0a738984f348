"""Dice against its formula in float64, and what padding and other devices do to it.

Shape legend
    N   samples    H   channels
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.nn.dice import ACTIVATIONS, Dice, Moment, training
from dicm_jax.nn.prelu import PReLU

N, H = 40, 5


def dice(eps: float = 1e-8) -> Dice:
    """With slopes and moving averages that are all different."""
    module = Dice(H, eps=eps)
    module.slope[...] = jnp.linspace(-0.5, 0.7, H)
    module.mean[...] = jnp.linspace(-1.0, 1.0, H)
    module.variance[...] = jnp.linspace(0.5, 3.0, H)
    return module


def samples() -> jax.Array:
    spread_H = jnp.linspace(0.1, 4.0, H)
    return spread_H[None] * jax.random.normal(jax.random.key(0), (N, H)) + 0.7


def formula(x_NH: np.ndarray, mean_H: np.ndarray, variance_H: np.ndarray, slope_H: np.ndarray):
    """Zhou et al. 2018, equations 8 and 9."""
    gate_NH = 1 / (1 + np.exp(-(x_NH - mean_H) / np.sqrt(variance_H + 1e-8)))
    return gate_NH * x_NH + (1 - gate_NH) * slope_H * x_NH


def in_float64(x: jax.Array) -> np.ndarray:
    return np.asarray(x, np.float64)


def test_in_prediction_it_is_the_formula_with_the_moving_averages():
    module = dice()
    moments = [in_float64(part[...]) for part in (module.mean, module.variance, module.slope)]
    expected_NH = formula(in_float64(samples()), *moments)
    np.testing.assert_allclose(module(samples()), expected_NH, rtol=1e-5, atol=1e-6)


def test_in_prediction_a_row_does_not_depend_on_its_batch():
    module = dice()
    np.testing.assert_array_equal(module(samples())[:3], module(samples()[:3]))
    assert (module.mean[...] == dice().mean[...]).all()


def test_in_training_it_is_the_formula_with_the_moments_of_the_batch():
    module = dice()
    training(module, lambda x: x)
    x_NH = in_float64(samples())
    slope_H = in_float64(module.slope[...])
    expected_NH = formula(x_NH, x_NH.mean(axis=0), x_NH.var(axis=0), slope_H)
    np.testing.assert_allclose(module(samples()), expected_NH, rtol=1e-4, atol=1e-5)


def test_training_moves_the_averages_a_tenth_of_the_way():
    module = dice()
    training(module, lambda x: x)
    module(samples())
    x_NH = in_float64(samples())
    for found, before, batch in [
        (module.mean, dice().mean, x_NH.mean(axis=0)),
        (module.variance, dice().variance, x_NH.var(axis=0)),
    ]:
        expected = 0.9 * in_float64(before[...]) + 0.1 * batch
        np.testing.assert_allclose(found[...], expected, rtol=1e-5)


def test_padding_counts_in_no_moment_and_gets_no_gradient_through_them():
    there_N = jnp.arange(N) < 25

    def total(x_NH):
        module = dice()
        training(module, lambda x: x)
        return jnp.sum(jnp.square(module(x_NH, there_N)[:25])), nnx.state(module, Moment)

    junk_NH = jnp.where(there_N[:, None], samples(), 1e4)
    (value, moments), g_NH = jax.value_and_grad(total, has_aux=True)(junk_NH)
    (expected, expected_moments), _ = jax.value_and_grad(total, has_aux=True)(samples())
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, moments, expected_moments)
    assert not np.asarray(g_NH)[25:].any()
    assert np.asarray(g_NH)[:25].all()


def test_a_batch_of_padding_alone_moves_no_average():
    """Such as the behaviors of a batch of new users."""
    module = dice()
    training(module, lambda x: x)
    module(samples(), jnp.zeros(N, bool))
    for found, before in ((module.mean, dice().mean), (module.variance, dice().variance)):
        np.testing.assert_array_equal(found[...], before[...])


def test_the_gradient_goes_through_the_moments():
    """Against slopes of the formula in float64."""

    def of_jax(x_NH):
        module = dice()
        training(module, lambda x: x)
        return jnp.sum(jnp.sin(module(x_NH)))

    def of_numpy(x_NH):
        slope_H = in_float64(dice().slope[...])
        return np.sin(formula(x_NH, x_NH.mean(axis=0), x_NH.var(axis=0), slope_H)).sum()

    g_NH = np.asarray(jax.grad(of_jax)(samples()))
    x_NH, rng = in_float64(samples()), np.random.default_rng(0)
    for _ in range(5):
        way_NH = rng.normal(size=x_NH.shape)
        slope = (of_numpy(x_NH + 1e-5 * way_NH) - of_numpy(x_NH - 1e-5 * way_NH)) / 2e-5
        np.testing.assert_allclose((g_NH * way_NH).sum(), slope, rtol=1e-3)


def test_without_a_spread_it_is_prelu():
    """Mean 0 and variance 0: the gate is a step (section 5.3 of the paper)."""
    module, prelu = dice(), PReLU(H)
    module.mean[...] = jnp.zeros(H)
    module.variance[...] = jnp.zeros(H)
    prelu.slope[...] = module.slope[...]
    x_NH = samples()
    assert float(jnp.min(jnp.abs(x_NH))) > 1e-2 / N
    np.testing.assert_allclose(module(x_NH), prelu(x_NH), atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_all_activations_are_made_and_called_alike(name):
    activation = ACTIVATIONS[name](H)
    assert activation(samples(), jnp.ones(N, bool)).shape == (N, H)
