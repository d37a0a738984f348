"""AUC and GAUC against scikit-learn user by user, and the properties that define them.

Shape legend
    B   impressions
    U   users
"""

import math

import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dicm_jax.errors import DataError
from dicm_jax.metrics import auc, auc_by_user, gauc, relaimpr


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A log with ties, users of one class and users of one impression, by a random recipe."""
    rng = np.random.default_rng(seed)
    impressions = int(rng.integers(2, 600))
    user_B = rng.integers(0, rng.integers(1, 120), impressions)
    click_B = rng.random(impressions) < rng.choice([0.05, 0.3, 0.5, 0.95])
    distinct = rng.choice([1, 2, 5, 50, 10**6])
    score_B = rng.integers(0, distinct, impressions) / distinct - rng.choice([0.0, 0.5])
    user_B[0] = user_B.max() + 1  # one impression
    return user_B, click_B, score_B.astype(rng.choice(["f2", "f4", "f8"]))


def sklearn_by_user(user_B, click_B, score_B):
    """AUC and impressions of each user of both classes, one call of scikit-learn per user."""
    auc_of, impressions_of = {}, {}
    for user in np.unique(user_B):
        mine_B = user_B == user
        if 0 < click_B[mine_B].sum() < mine_B.sum():
            auc_of[int(user)] = roc_auc_score(click_B[mine_B], score_B[mine_B].astype(np.float64))
            impressions_of[int(user)] = int(mine_B.sum())
    return auc_of, impressions_of


@pytest.mark.parametrize("first_seed", range(0, 100, 10))
def test_random_cases_equal_scikit_learn_per_user(first_seed):
    for seed in range(first_seed, first_seed + 10):
        user_B, click_B, score_B = random_case(seed)
        auc_of, impressions_of = sklearn_by_user(user_B, click_B, score_B)
        by_user = auc_by_user(user_B, click_B, score_B)
        counted_U = by_user.is_counted
        assert by_user.user_U.tolist() == np.unique(user_B).tolist()
        assert by_user.impressions_U.tolist() == np.bincount(user_B)[by_user.user_U].tolist()
        assert by_user.user_U[counted_U].tolist() == list(auc_of)
        assert np.isnan(by_user.auc_U[~counted_U]).all()
        np.testing.assert_allclose(
            by_user.auc_U[counted_U], list(auc_of.values()), rtol=0, atol=1e-9
        )
        if auc_of:
            expected = np.average(list(auc_of.values()), weights=list(impressions_of.values()))
            assert gauc(user_B, click_B, score_B) == pytest.approx(expected, rel=0, abs=1e-9)
        if 0 < click_B.sum() < len(click_B):
            expected = roc_auc_score(click_B, score_B.astype(np.float64))
            assert auc(click_B, score_B) == pytest.approx(expected, rel=0, abs=1e-9)


def test_the_random_cases_do_hold_ties_one_class_users_and_single_impressions():
    ties = one_class = single = both = 0
    for seed in range(100):
        user_B, click_B, score_B = random_case(seed)
        pairs = {(u, s) for u, s in zip(user_B.tolist(), score_B.tolist(), strict=True)}
        by_user = auc_by_user(user_B, click_B, score_B)
        ties += len(pairs) < len(user_B)
        one_class += bool((~by_user.is_counted & (by_user.impressions_U > 1)).any())
        single += bool((by_user.impressions_U == 1).any())
        both += bool(by_user.is_counted.any())
    assert min(ties, one_class, single, both) > 50


def test_per_user_increasing_transforms_leave_gauc_and_move_auc():
    rng = np.random.default_rng(0)
    user_B = rng.integers(0, 50, 2000)
    click_B = rng.random(2000) < 0.3
    score_B = rng.integers(0, 20, 2000) + 3.0 * click_B  # whole numbers: shifts keep every tie
    shift_U, scale_U = rng.integers(-500, 500, 50), rng.uniform(0.5, 2.0, 50)
    shifted_B = score_B + shift_U[user_B]
    bent_B = np.exp(score_B / 40) * scale_U[user_B]
    expected = gauc(user_B, click_B, score_B)
    assert gauc(user_B, click_B, shifted_B) == expected
    assert gauc(user_B, click_B, bent_B) == expected
    assert abs(auc(click_B, shifted_B) - auc(click_B, score_B)) > 0.01


def test_turning_the_scores_round_mirrors_the_measures():
    user_B, click_B, score_B = random_case(3)
    assert gauc(user_B, click_B, -score_B) == pytest.approx(1 - gauc(user_B, click_B, score_B))
    assert auc(click_B, -score_B) == pytest.approx(1 - auc(click_B, score_B))


def test_a_tie_counts_one_half():
    assert auc([0, 1], [0.3, 0.3]) == 0.5
    assert auc([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.3]) == 0.75
    assert gauc([5, 5, 5], [1, 0, 0], [0.2, 0.2, 0.9]) == 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_and_minus_zero_are_a_tie_and_the_smallest_number_is_not(dtype):
    assert auc(np.array([0, 1]), np.array([0.0, -0.0], dtype)) == 0.5
    assert auc(np.array([0, 1]), np.array([-0.0, 0.0], dtype)) == 0.5
    smallest = np.finfo(dtype).smallest_subnormal
    assert auc(np.array([0, 1, 1]), np.array([0.0, smallest, -smallest], dtype)) == 0.5
    assert auc(np.array([1, 0]), np.array([smallest, -0.0], dtype)) == 1.0


def test_float64_scores_that_are_equal_in_float32_stay_apart():
    close_B = np.array([0.5, np.nextafter(0.5, 1)])
    assert close_B.astype(np.float32)[0] == close_B.astype(np.float32)[1]
    assert auc([0, 1], close_B) == 1.0
    assert gauc([1, 1], [1, 0], close_B) == 0.0


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint8, np.int64, np.uint64, np.float16, ml_dtypes.bfloat16]
)
def test_any_real_type_ranks_as_its_values_do(dtype):
    score_B = np.array([0, 3, 1, 1, 7, 2, 1]).astype(dtype)
    click_B = [0, 1, 1, 0, 1, 0, 1]
    expected = roc_auc_score(click_B, score_B.astype(np.float64))
    assert auc(click_B, score_B) == pytest.approx(expected, rel=1e-12)


def test_large_integers_do_not_collide():
    assert auc([0, 1], np.array([2**53, 2**53 + 1])) == 1.0


def test_users_of_one_class_have_no_effect():
    user_B, click_B, score_B = random_case(7)
    more_user_B = np.concatenate([user_B, [900, 900, 901, 902, 902, 902]])
    more_click_B = np.concatenate([click_B, [1, 1, 0, 0, 0, 0]])
    more_score_B = np.concatenate([score_B, [0.9, 0.1, 0.4, 0.0, 0.2, 0.2]])
    assert gauc(more_user_B, more_click_B, more_score_B) == gauc(user_B, click_B, score_B)


def test_the_weight_is_all_impressions_of_the_user_not_his_clicks():
    user_B = np.repeat([0, 1], [2, 8])
    click_B = [1, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    score_B = [0.9, 0.1, *[0.0] * 8]
    assert gauc(user_B, click_B, score_B) == pytest.approx((2 * 1.0 + 8 * 0.5) / 10)
    by_user = auc_by_user(user_B, click_B, score_B)
    assert np.average(by_user.auc_U, weights=by_user.clicks_U) == pytest.approx(0.6)


def test_gauc_of_one_user_is_his_auc():
    _, click_B, score_B = random_case(11)
    assert gauc(np.full(len(click_B), 42), click_B, score_B) == auc(click_B, score_B)


def test_the_order_of_the_rows_does_not_matter_in_any_bit():
    user_B, click_B, score_B = random_case(12)
    order_B = np.random.default_rng(0).permutation(len(user_B))
    assert gauc(user_B[order_B], click_B[order_B], score_B[order_B]) == gauc(
        user_B, click_B, score_B
    )
    assert auc(click_B[order_B], score_B[order_B]) == auc(click_B, score_B)


@pytest.mark.parametrize("click", [0, 1])
def test_one_class_alone_gives_nan_and_not_one_half(click):
    click_B = np.full(6, click)
    score_B = np.linspace(0, 1, 6)
    assert math.isnan(gauc([1, 1, 2, 2, 3, 3], click_B, score_B))
    assert math.isnan(auc(click_B, score_B))


def test_every_user_of_one_class_gives_nan_though_the_log_has_both():
    assert math.isnan(gauc([1, 1, 2, 2], [1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]))


@pytest.mark.parametrize(
    "name_of_user", [lambda u: u - 60, lambda u: u * 2**56, lambda u: u + 2**31]
)
def test_user_ids_may_be_negative_or_wide(name_of_user):
    user_B, click_B, score_B = random_case(20)
    named_B = name_of_user(user_B)
    by_user = auc_by_user(named_B, click_B, score_B)
    assert by_user.user_U.tolist() == np.unique(named_B).tolist()
    np.testing.assert_array_equal(
        by_user.auc_U, auc_by_user(user_B, click_B, score_B).auc_U[np.argsort(np.unique(user_B))]
    )


def test_the_largest_user_id_of_the_fast_path_keeps_its_bits():
    by_user = auc_by_user([2**31 - 1, 0, 2**31 - 1, 0], [1, 1, 0, 0], [1.0, -1.0, -1.0, 1.0])
    assert by_user.user_U.tolist() == [0, 2**31 - 1]
    assert by_user.auc_U.tolist() == [0.0, 1.0]


def test_relaimpr_is_the_gain_over_chance_in_percent():
    assert relaimpr(0.6, 0.6) == 0.0
    assert relaimpr(0.7, 0.6) == pytest.approx(100.0)
    assert relaimpr(0.5, 0.6) == pytest.approx(-100.0)
    assert relaimpr(0.6283, 0.6205) == pytest.approx(0.0078 / 0.1205 * 100)


def test_relaimpr_against_chance_is_refused():
    with pytest.raises(DataError, match=r"better or worse than chance; found an AUC of 0\.5"):
        relaimpr(0.6, 0.5)
