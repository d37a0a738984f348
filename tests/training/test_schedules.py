"""Learning rates by step: the paper's staircase, and the cosine."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.training.schedules import cosine, staircase


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-3),
        (23_999, 1e-3),
        (24_000, 9e-4),
        (47_999, 9e-4),
        (48_000, 8.1e-4),
        (128_000, 5.9049e-4),
    ],
)
def test_the_papers_rate_falls_by_a_tenth_every_24_000_steps(step, rate):
    schedule = staircase(1e-3, 0.9, 24_000)
    assert float(np.asarray(schedule(jnp.int32(step)))) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("step", [0, 1, 25, 50, 99, 100, 150])
def test_the_cosine_ends_at_zero_and_stays_there(step):
    expected = 0.5 * 2e-3 * (1 + math.cos(math.pi * min(step, 100) / 100))
    assert float(np.asarray(cosine(2e-3, 100)(jnp.int32(step)))) == pytest.approx(
        expected, abs=1e-9
    )
