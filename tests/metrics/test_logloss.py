"""Log loss against scikit-learn.

Shape legend
    B   impressions
"""

import numpy as np
import pytest
import sklearn.metrics

from dicm_jax.metrics import log_loss


def sklearn_log_loss(click_B, probability_B):
    return sklearn.metrics.log_loss(click_B, probability_B, labels=[0, 1])


@pytest.mark.parametrize("seed", range(20))
def test_random_cases_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 3000))
    click_B = rng.random(size) < rng.random()
    probability_B = rng.beta(0.5, 3.0, size)
    expected = sklearn_log_loss(click_B, probability_B)
    assert log_loss(click_B, probability_B) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_certain_errors_are_clipped_as_scikit_learn_clips_them(dtype, tolerance):
    click_B = np.array([0, 1, 0, 1])
    for probability_B in ([1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]):
        given_B = np.array(probability_B, dtype)
        expected = sklearn_log_loss(click_B, given_B)
        assert log_loss(click_B, given_B) == pytest.approx(expected, rel=tolerance)


def test_the_sum_is_in_float64():
    rng = np.random.default_rng(0)
    probability_B = rng.uniform(0.001, 0.999, 1_000_000).astype(np.float32)  # nothing to clip
    click_B = rng.random(1_000_000) < 0.5
    exact = sklearn_log_loss(click_B, probability_B.astype(np.float64))
    assert log_loss(click_B, probability_B) == pytest.approx(exact, rel=1e-11)


def test_one_class_has_a_log_loss():
    assert log_loss([1, 1], [0.5, 0.25]) == pytest.approx(np.log(2) * 1.5)


def test_whole_number_probabilities_and_labels_of_any_type():
    expected = log_loss(np.array([True, False]), np.array([1.0, 0.0]))
    assert log_loss([1, 0], [1, 0]) == expected
    assert log_loss([1.0, 0.0], [True, False]) == pytest.approx(1.19e-7, rel=0.01)
    assert expected < 1e-15
