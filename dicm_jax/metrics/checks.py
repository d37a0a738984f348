"""Checks of what the metrics are given: arrays come back usable, or a `DataError` says why not.

Shape legend
    B   impressions
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Integer, Real

from dicm_jax.errors import DataError

MAX_IMPRESSIONS = 2**31
"""Up to here a sort key fits 64 bits and a count of pairs fits int64, so that ranks are exact."""


def check_shapes(**array_B: npt.ArrayLike) -> None:
    """Checks that the named arrays have one value for each of the same, non-empty impressions.

    Raises:
        DataError: an array is not one-dimensional, lengths differ, or there are no impressions or
            more than `MAX_IMPRESSIONS`.
    """
    shapes = {name: np.shape(array) for name, array in array_B.items()}
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    first = next(iter(shapes.values()))
    if len(first) != 1 or len(set(shapes.values())) != 1:
        raise DataError(
            f"Metrics need one value per impression in arrays of one dimension and one length; "
            f"found shapes: {found}. Flatten them and leave padding out of all of them alike."
        )
    if first[0] == 0:
        raise DataError(
            "Metrics need at least one impression; found 0. Check that the split is not empty and "
            "that the filter of the segment matches something."
        )
    if first[0] > MAX_IMPRESSIONS:
        raise DataError(
            f"Metrics are exact up to {MAX_IMPRESSIONS} impressions; found {first[0]}. Score parts "
            "of the log, each with whole users."
        )


def checked_users(user_B: npt.ArrayLike) -> Integer[np.ndarray, "B"]:
    """Returns the user IDs as an integer array [B].

    Raises:
        DataError: they are not integers.
    """
    user_B = np.asarray(user_B)
    if user_B.dtype.kind not in "iu":
        raise DataError(
            f"Users must be integers; found an array of {user_B.dtype}. Number them first, for "
            "instance with np.unique(users, return_inverse=True)."
        )
    return user_B


def checked_clicks(click_B: npt.ArrayLike) -> Bool[np.ndarray, "B"]:
    """Returns the labels as a Boolean array [B], true where clicked.

    Raises:
        DataError: a label is neither 0 nor 1.
    """
    click_B = np.asarray(click_B)
    if click_B.dtype == np.bool_:
        return click_B
    clicked_B = click_B == 1
    wrong_B = ~(clicked_B | (click_B == 0))
    if wrong_B.any():
        raise DataError(
            f"Clicks must be 0 or 1; {_count_and_first(click_B, wrong_B)}. Turn the labels into 0 "
            "(not clicked) and 1 (clicked) before scoring."
        )
    return clicked_B


def checked_scores(score_B: npt.ArrayLike) -> Real[np.ndarray, "B"]:
    """Returns the scores as an array [B] of finite reals, in float32 where that loses nothing.

    Raises:
        DataError: they are not real numbers, or one is NaN or infinite.
    """
    score_B = np.asarray(score_B)
    if np.can_cast(score_B.dtype, np.float32):
        score_B = score_B.astype(np.float32, copy=False)
    if score_B.dtype.kind not in "iuf":
        raise DataError(
            f"Scores must be real numbers; found an array of {score_B.dtype}. Pass one probability "
            "(or logit) per impression."
        )
    wrong_B = ~np.isfinite(score_B)
    if wrong_B.any():
        raise DataError(
            f"Scores must be finite; {_count_and_first(score_B, wrong_B)}. Look for the step at "
            "which the model stopped being finite, or for NaN in the features of that impression."
        )
    return score_B


def checked_probabilities(probability_B: npt.ArrayLike) -> Real[np.ndarray, "B"]:
    """Returns `checked_scores` that also lie in [0, 1].

    Raises:
        DataError: as `checked_scores`, or one lies outside [0, 1].
    """
    probability_B = checked_scores(probability_B)
    wrong_B = (probability_B < 0) | (probability_B > 1)
    if wrong_B.any():
        raise DataError(
            f"Probabilities must lie in [0, 1]; {_count_and_first(probability_B, wrong_B)}. Pass "
            "logits through the sigmoid first."
        )
    return probability_B


def _count_and_first(value_B: np.ndarray, wrong_B: Bool[np.ndarray, "B"]) -> str:
    """Says how many values are wrong, and which comes first."""
    row = int(np.argmax(wrong_B))
    return (
        f"{np.count_nonzero(wrong_B)} of {len(value_B)} are not "
        f"(first: {value_B[row]} at row {row})"
    )
