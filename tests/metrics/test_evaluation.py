"""`score`: its parts together, its counts, its memory, and what it leaves untouched.

Shape legend
    B   impressions
"""

import math
import tracemalloc

import numpy as np
import pytest
import sklearn.metrics

from dicm_jax.metrics import auc, gauc, log_loss, score


def test_score_is_its_parts():
    rng = np.random.default_rng(0)
    user_B, click_B = rng.integers(0, 300, 2000), rng.random(2000) < 0.2
    probability_B = np.round(rng.random(2000), 2).astype(np.float32)
    scores = score(user_B, click_B, probability_B)
    assert scores.gauc == gauc(user_B, click_B, probability_B)
    assert scores.auc == auc(click_B, probability_B)
    assert scores.auc == pytest.approx(sklearn.metrics.roc_auc_score(click_B, probability_B))
    assert scores.logloss == log_loss(click_B, probability_B)


def test_the_counts_say_what_was_left_out():
    user_B = [1, 1, 1, 2, 2, 3, 4, 4]
    click_B = [1, 0, 0, 1, 1, 0, 0, 1]
    scores = score(user_B, click_B, [0.5] * 8)
    assert (scores.impressions, scores.clicks) == (8, 4)
    assert (scores.users_counted, scores.users_left_out) == (2, 2)
    assert scores.impressions_left_out == 3
    assert scores.gauc == scores.auc == 0.5


def test_all_users_of_one_class_give_nan_gauc_beside_a_log_loss():
    scores = score([1, 2], [1, 0], [0.75, 0.25])
    assert math.isnan(scores.gauc)
    assert scores.auc == 1.0
    assert scores.logloss == pytest.approx(-math.log(0.75))
    assert (scores.users_counted, scores.users_left_out, scores.impressions_left_out) == (0, 2, 2)


def test_the_inputs_are_only_read():
    arrays = np.array([3, 3, 1]), np.array([True, False, True]), np.array([-0.0, 1, 0.5], "f4")
    before = [a.tobytes() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    score(*arrays)
    assert [a.tobytes() for a in arrays] == before


def test_strided_and_byte_swapped_inputs_are_read_right():
    rng = np.random.default_rng(0)
    log_B2 = rng.random((500, 2)).astype(np.float32)
    user_B, click_B = rng.integers(0, 40, 500).astype(">i4"), rng.random(500) < 0.5
    plain = score(user_B.astype(np.int32), click_B, log_B2[:, 1].copy())
    assert score(user_B, click_B, log_B2[:, 1]) == plain
    assert score(user_B, click_B, log_B2[:, 1].astype(">f4")) == plain


@pytest.mark.parametrize(("user_scale", "dtype"), [(1, "f4"), (1, "f8"), (2**40, "f4")])
def test_memory_stays_far_below_2_gib_for_10_million_impressions(user_scale, dtype):
    impressions = 200_000
    rng = np.random.default_rng(0)
    user_B = rng.integers(0, impressions // 10, impressions) * user_scale
    click_B, probability_B = rng.random(impressions) < 0.2, rng.random(impressions).astype(dtype)
    tracemalloc.start()
    score(user_B, click_B, probability_B)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / impressions * 10e6 < 1.2 * 2**30
