"""Frequency-aware regularisation against its closed form, and the counts behind it.

Shape legend
    V   keys    U   rows touched    E   embedding width
"""

import numpy as np
import pytest
from jax import numpy as jnp

from dicm_jax.data.batches import BatchSource
from dicm_jax.data.frequency import key_counts
from dicm_jax.training.frequency_decay import frequency_decay
from dicm_jax.training.row_adam import RowAdam
from tests import small_world

COUNTS = np.array([1, 4, 1000, 0])
ROWS = np.array([7, 2, 5, 0])
STRENGTH = 0.3


class KeepGradient(RowAdam):
    """Keeps the gradient in the place of ``mu``."""

    def at(self, step, learning_rate):
        return lambda touched, gradient_UE: touched | {"mu": gradient_UE}


def gradient_of(rows_UE: np.ndarray, rows_U: np.ndarray, gradient_UE: np.ndarray) -> np.ndarray:
    """What reaches the optimiser for some touched rows."""
    decay = frequency_decay(KeepGradient(), STRENGTH, ROWS, COUNTS, 8)
    table = decay.init(jnp.zeros((8, 3)))
    touched = {name: array[rows_U] for name, array in table.items()}
    touched |= {"row": jnp.asarray(rows_UE)}
    moved = decay.at(jnp.zeros((), jnp.int32), 0.1)(touched, jnp.asarray(gradient_UE))
    np.testing.assert_array_equal(moved["pull"], touched["pull"])
    return np.asarray(moved["mu"])


def test_the_term_is_strength_over_count_times_the_row():
    rng = np.random.default_rng(0)
    rows_UE, g_UE = (rng.normal(size=(3, 3)).astype(np.float32) for _ in range(2))
    found = gradient_of(rows_UE, ROWS[:3], g_UE)
    expected = g_UE + STRENGTH / COUNTS[:3, None] * rows_UE
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_equal_rows_are_pulled_in_the_inverse_ratio_of_their_counts():
    pulls = gradient_of(np.ones((3, 3), np.float32), ROWS[:3], np.zeros((3, 3), np.float32))
    assert pulls[0, 0] / pulls[1, 0] == pytest.approx(4)
    assert pulls[1, 0] / pulls[2, 0] == pytest.approx(250)


def test_counts_are_those_of_walking_over_every_impression():
    log = small_world.log()
    source = BatchSource(log, log.train, small_world.SHAPE, seed=0)
    expected_V = np.zeros(source.stack.n_keys, np.int64)
    for number in range(len(source)):
        batch = source[number]
        for a, b in np.argwhere(batch.weight_AB > 0):
            g = batch.group_AB[a, b]
            keys = [batch.user_AGF[a, g], batch.impression_ABF[a, b], batch.behavior_AGLF[a, g]]
            flat = np.concatenate([part.ravel() for part in keys])
            np.add.at(expected_V, flat[flat >= 0], 1)
    np.testing.assert_array_equal(key_counts(source), expected_V)
