"""Merging at the owner against `numpy.unique`, and the sums of gradients against float64.

Shape legend
    M   rows asked for    U   slots of unique rows    E   width of the vectors
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.ams import owner

SLOTS = 48
N_ROWS = 100

merge = jax.jit(owner.merge, static_argnums=1, static_argnames="distinct")


def wanted(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wanted_M = rng.integers(0, rng.choice([1, 5, N_ROWS]), SLOTS)
    return np.where(rng.random(SLOTS) < rng.choice([0.0, 0.3, 0.9]), N_ROWS, wanted_M).astype("i4")


def places_of(merged: owner.Merged) -> np.ndarray:
    return np.arange(SLOTS) if merged.place_M is None else np.asarray(merged.place_M)


def check(wanted_M: np.ndarray, merged: owner.Merged) -> None:
    rows_U, place_M = np.asarray(merged.rows_U), places_of(merged)
    unique = np.unique(wanted_M[wanted_M < N_ROWS])
    assert int(merged.count) == len(unique)
    np.testing.assert_array_equal(rows_U[: len(unique)], unique)
    assert (rows_U[len(unique) :] >= N_ROWS).all()
    assert len(np.unique(rows_U)) == len(rows_U)  # a scatter is promised unique indices
    real = wanted_M < N_ROWS
    np.testing.assert_array_equal(rows_U[place_M[real]], wanted_M[real])
    assert (rows_U[place_M[~real]] >= N_ROWS).all()


@pytest.mark.parametrize("seed", range(30))
def test_merge_equals_numpy_unique(seed):
    check(wanted(seed), merge(wanted(seed), N_ROWS))


def test_merge_of_nothing_but_unused_places():
    nothing = np.full(SLOTS, N_ROWS, np.int32)
    check(nothing, merge(nothing, N_ROWS))


def test_merge_of_one_row_asked_for_everywhere():
    same = np.full(SLOTS, N_ROWS - 1, np.int32)
    check(same, merge(same, N_ROWS))


@pytest.mark.parametrize("used", [0, 1, 20, SLOTS])
def test_as_listed_is_merge_of_a_sorted_list_of_one_requester(used):
    rng = np.random.default_rng(used)
    rows = np.sort(rng.choice(N_ROWS, used, replace=False))
    wanted_M = np.concatenate([rows, np.full(SLOTS - used, N_ROWS)]).astype(np.int32)
    check(wanted_M, owner.as_listed(jnp.asarray(wanted_M), N_ROWS))


@pytest.mark.parametrize("seed", range(10))
def test_rows_that_are_not_merged_have_a_slot_each_time(seed):
    wanted_M = wanted(seed)
    merged = merge(wanted_M, N_ROWS, distinct=False)
    real = wanted_M < N_ROWS
    rows_U, place_M = np.asarray(merged.rows_U), places_of(merged)
    assert int(merged.count) == real.sum()
    np.testing.assert_array_equal(rows_U[: real.sum()], np.sort(wanted_M[real]))
    np.testing.assert_array_equal(rows_U[place_M[real]], wanted_M[real])
    np.testing.assert_array_equal(np.sort(place_M), np.arange(SLOTS))


@pytest.mark.parametrize("seed", range(10))
def test_gradients_are_summed_per_row(seed):
    wanted_M = wanted(seed)
    gradients_ME = np.random.default_rng(seed).normal(size=(SLOTS, 3)).astype(np.float32)
    merged = merge(wanted_M, N_ROWS)
    summed_UE = np.asarray(owner.sum_gradients(jnp.asarray(gradients_ME), merged))
    expected_VE = np.zeros((N_ROWS + 1, 3))
    np.add.at(expected_VE, wanted_M, gradients_ME.astype(np.float64))
    count = int(merged.count)
    rows = np.asarray(merged.rows_U)[:count]
    np.testing.assert_allclose(summed_UE[:count], expected_VE[rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_vectors_are_spread_to_all_who_asked_and_gradients_come_back_the_same_way(seed):
    """As listed and merged alike, with slots to spare: `sum_gradients` is the transpose."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(N_ROWS, 30, replace=False))
    wanted_M = jnp.asarray(np.concatenate([rows, np.full(SLOTS - 30, N_ROWS)]), jnp.int32)
    padding = jnp.full(8, N_ROWS, jnp.int32)
    for merged in (owner.as_listed(wanted_M, N_ROWS), merge(wanted_M, N_ROWS)):
        padded = dataclasses.replace(merged, rows_U=jnp.concatenate([merged.rows_U, padding]))
        vectors_UE = jnp.asarray(rng.normal(size=(SLOTS + 8, 3)), jnp.float32)
        gradients_ME = jnp.asarray(rng.normal(size=(SLOTS, 3)), jnp.float32)
        vectors_ME = np.asarray(owner.spread(vectors_UE, padded, SLOTS))
        np.testing.assert_array_equal(vectors_ME[:30], vectors_UE[:30])
        summed_UE = owner.sum_gradients(gradients_ME, padded)
        assert summed_UE.shape == vectors_UE.shape
        np.testing.assert_array_equal(summed_UE[:30], gradients_ME[:30])
