"""Means, spreads and paired intervals against NumPy and SciPy."""

import math

import numpy as np
import pytest
import scipy.stats

from dicm_jax.studies.compare import paired, summary


def test_a_summary_is_numpys_mean_and_deviation():
    values = np.random.default_rng(0).normal(0.7, 0.01, 5)
    found = summary(values)
    assert found.n == 5
    assert found.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)


def test_one_value_has_no_spread_and_none_has_no_mean():
    assert summary([0.5]).mean == 0.5
    assert math.isnan(summary([0.5]).std)
    assert math.isnan(summary([]).mean)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_interval_is_that_of_scipys_paired_t_test(seeds):
    rng = np.random.default_rng(seeds)
    shared = rng.normal(0.7, 0.05, seeds)
    a, b = shared + rng.normal(0.01, 0.002, seeds), shared + rng.normal(0, 0.002, seeds)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(a - b), abs=1e-14)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_only_seeds_that_both_have_are_compared():
    found = paired({0: 0.7, 1: 0.8, 2: 0.9}, {1: 0.5, 2: 0.5, 3: 0.1})
    assert found.by_seed == pytest.approx({1: 0.3, 2: 0.4})


@pytest.mark.parametrize(
    ("a", "verdict"),
    [
        ({0: 0.61, 1: 0.62, 2: 0.615}, "holds"),
        ({0: 0.41, 1: 0.42, 2: 0.415}, "does not hold"),
        ({0: 0.61, 1: 0.42, 2: 0.515}, "undecided"),
        ({0: 0.61}, "one seed only"),
        ({}, "no seed yet"),
    ],
)
def test_the_verdict_says_where_the_interval_lies(a, verdict):
    assert paired(a, {0: 0.5, 1: 0.5, 2: 0.5}).verdict == verdict
