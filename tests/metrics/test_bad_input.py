"""What the metrics refuse, and the message each refusal ends with."""

import numpy as np
import pytest

from dicm_jax.errors import DataError
from dicm_jax.metrics import auc, gauc, log_loss, score


def test_lengths_that_differ_are_named():
    message = r"found shapes: user \(2,\), click \(3,\), probability \(3,\)\. Flatten"
    with pytest.raises(DataError, match=message):
        score([1, 1], [0, 1, 0], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match=r"click \(2,\), score \(3,\)"):
        auc([0, 1], [0.1, 0.2, 0.3])


def test_more_than_one_dimension_is_refused():
    with pytest.raises(DataError, match=r"click \(2, 1\), probability \(2, 1\)"):
        log_loss([[0], [1]], [[0.1], [0.2]])
    with pytest.raises(DataError, match=r"one dimension"):
        auc(np.array(1), np.array(0.5))


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match=r"at least one impression; found 0\. Check that the split"):
        score(np.array([], np.int32), [], [])


def test_too_many_impressions_for_exact_ranks_are_refused():
    count = 2**31 + 1
    click_B, score_B = np.broadcast_to(True, count), np.broadcast_to(np.float32(0), count)
    with pytest.raises(DataError, match=r"up to 2147483648 impressions; found 2147483649\. Score"):
        auc(click_B, score_B)


@pytest.mark.parametrize("user_B", [[1.0, 2.0], ["a", "b"], [True, False]])
def test_users_that_are_not_integers_are_refused(user_B):
    with pytest.raises(DataError, match=r"Users must be integers; found an array of .*Number them"):
        gauc(user_B, [0, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("click_B", "found"),
    [([0, 1, 2, -1], "2 of 4 are not (first: 2 at row 2)"), ([0, 1, 0, np.nan], "(first: nan")],
)
def test_labels_other_than_0_and_1_are_counted_and_shown(click_B, found):
    for measure in (auc, log_loss):
        with pytest.raises(DataError, match=r"Clicks must be 0 or 1") as caught:
            measure(click_B, [0.1, 0.2, 0.3, 0.4])
        assert found in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_that_are_not_finite_are_counted_and_shown(value, dtype):
    score_B = np.array([0.1, value, 0.3, value], dtype)
    message = rf"Scores must be finite; 2 of 4 are not \(first: {value} at row 1\)\. Look for"
    for measure in (auc, log_loss):
        with pytest.raises(DataError, match=message):
            measure([0, 1, 0, 1], score_B)
    with pytest.raises(DataError, match=message):
        score([1, 1, 1, 1], [0, 1, 0, 1], score_B)


@pytest.mark.parametrize("score_B", [[1j, 0.5], ["0.1", "0.2"]])
def test_scores_that_are_not_real_numbers_are_refused(score_B):
    with pytest.raises(DataError, match=r"Scores must be real numbers; found an array of"):
        auc([0, 1], score_B)


def test_logits_given_as_probabilities_are_refused():
    message = r"lie in \[0, 1\]; 2 of 3 are not \(first: -0\.5 at row 0\)\. Pass logits"
    for refuses in (lambda p: log_loss([0, 1, 0], p), lambda p: score([1, 1, 1], [0, 1, 0], p)):
        with pytest.raises(DataError, match=message):
            refuses([-0.5, 0.5, 1.5])
    assert auc([0, 1, 0], [-0.5, 0.5, 1.5]) == 0.5
