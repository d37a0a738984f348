"""AUC and GAUC, exact, from one sort and without a loop over users.

AUC is the share of pairs (clicked, not clicked) that the scores put in the right order, where a
tie counts one half. Pairs are counted in integers, two for a win and one for a tie, so that the
only rounding is that of the final division.

Shape legend
    B   impressions
    R   runs of equal user and score in the sorted impressions
    U   users
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float64, Int64, Integer, UInt32

from dicm_jax.errors import DataError
from dicm_jax.metrics import checks, sort_keys


@dataclasses.dataclass(frozen=True)
class UserAuc:
    """The AUC of each user, with the counts to weight it by. Users ascend.

    Attributes:
        user_U: user IDs.
        impressions_U: impressions of the user, int64.
        clicks_U: how many of them were clicked, int64.
        auc_U: float64 in [0, 1]; NaN where the user's impressions are of one class.
    """

    user_U: Integer[np.ndarray, "U"]
    impressions_U: Int64[np.ndarray, "U"]
    clicks_U: Int64[np.ndarray, "U"]
    auc_U: Float64[np.ndarray, "U"]

    @property
    def is_counted(self) -> Bool[np.ndarray, "U"]:
        """True for users with both classes, whose AUC is defined."""
        return (self.clicks_U > 0) & (self.clicks_U < self.impressions_U)

    def gauc(self) -> float:
        """Mean AUC of the users with both classes, weighted by impressions; NaN if there are none.

        Users of one class are left out of the numerator and of the denominator.
        """
        counted_U = self.is_counted
        if not counted_U.any():
            return float("nan")
        return float(np.average(self.auc_U[counted_U], weights=self.impressions_U[counted_U]))


def auc(click_B: npt.ArrayLike, score_B: npt.ArrayLike) -> float:
    """Area under the ROC curve over all impressions; ties count one half.

    Args:
        click_B: 0 or 1 per impression.
        score_B: finite real per impression; only its order matters.

    Returns:
        A float in [0, 1], or NaN if all impressions are of one class.

    Raises:
        DataError: see `dicm_jax.metrics.checks`.

    Example:
        >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
        0.875
    """
    checks.check_shapes(click=click_B, score=score_B)
    click_B, score_B = checks.checked_clicks(click_B), checks.checked_scores(score_B)
    return auc_of_codes(sort_keys.rank_codes(score_B), click_B)


def gauc(user_B: npt.ArrayLike, click_B: npt.ArrayLike, score_B: npt.ArrayLike) -> float:
    """GAUC = sum_u n_u AUC_u / sum_u n_u over users u with both classes, n_u their impressions.

    This is the paper's main measure (section 7.1). It does not change when one user's scores go
    through an increasing function, so that it rewards ranking within a user's impressions only.

    Args:
        user_B: integer user ID per impression, in any order.
        click_B: 0 or 1 per impression.
        score_B: finite real per impression.

    Returns:
        A float in [0, 1], or NaN if no user has both classes.

    Raises:
        DataError: see `dicm_jax.metrics.checks`.

    Example:
        >>> gauc([7, 7, 9, 9, 9], [0, 1, 1, 0, 0], [0.1, 0.2, 0.5, 0.5, 0.9])
        0.55
    """
    return auc_by_user(user_B, click_B, score_B).gauc()


def auc_by_user(user_B: npt.ArrayLike, click_B: npt.ArrayLike, score_B: npt.ArrayLike) -> UserAuc:
    """The AUC of each user by itself, for weightings other than by impressions.

    Takes and raises what `gauc` does.

    Example:
        >>> by_user = auc_by_user([7, 7, 9, 9, 9], [0, 1, 1, 0, 0], [0.1, 0.2, 0.5, 0.5, 0.9])
        >>> float(np.average(by_user.auc_U, weights=by_user.clicks_U))
        0.625
    """
    checks.check_shapes(user=user_B, click=click_B, score=score_B)
    user_B, click_B = checks.checked_users(user_B), checks.checked_clicks(click_B)
    return auc_by_user_of_codes(
        user_B, sort_keys.rank_codes(checks.checked_scores(score_B)), click_B
    )


def auc_of_codes(rank_code_B: UInt32[np.ndarray, "B"], click_B: Bool[np.ndarray, "B"]) -> float:
    """`auc` of checked clicks and of scores that are rank codes already."""
    everyone_B = np.broadcast_to(np.int32(0), click_B.shape)
    return float(auc_by_user_of_codes(everyone_B, rank_code_B, click_B).auc_U[0])


def auc_by_user_of_codes(
    user_B: Integer[np.ndarray, "B"],
    rank_code_B: UInt32[np.ndarray, "B"],
    click_B: Bool[np.ndarray, "B"],
) -> UserAuc:
    """`auc_by_user` of checked users and clicks and of scores that are rank codes already."""
    user_code_B, id_U = sort_keys.user_codes(user_B)
    key_B = sort_keys.sorted_keys(user_code_B, rank_code_B, click_B)
    first_R = sort_keys.first_of_ties(key_B)
    user_R = sort_keys.user_codes_of(key_B[first_R])
    clicks_R = np.add.reduceat(sort_keys.clicks_of(key_B), first_R)
    misses_R = np.diff(first_R, append=len(key_B)) - clicks_R

    first_U = np.flatnonzero(np.diff(user_R, prepend=-1))
    clicks_U = np.add.reduceat(clicks_R, first_U)
    misses_U = np.add.reduceat(misses_R, first_U)
    return UserAuc(
        user_U=user_R[first_U] if id_U is None else id_U,
        impressions_U=clicks_U + misses_U,
        clicks_U=clicks_U,
        auc_U=_auc_of_runs(clicks_R, misses_R, first_U, clicks_U * misses_U),
    )


def _auc_of_runs(
    clicks_R: Int64[np.ndarray, "R"],
    misses_R: Int64[np.ndarray, "R"],
    first_U: Int64[np.ndarray, "U"],
    pairs_U: Int64[np.ndarray, "U"],
) -> Float64[np.ndarray, "U"]:
    """Won pairs over all pairs of each user [U], from the clicks and misses of each tied run."""
    # A click beats the misses below it and halves those tied with it. Misses below are counted
    # from the first user on, and those of earlier users taken away in one go per user.
    below_R = np.cumsum(misses_R) - misses_R
    below_U = below_R[first_U]
    twice_won_R = clicks_R * (2 * below_R + misses_R)
    twice_won_U = np.add.reduceat(twice_won_R, first_U)
    twice_won_U -= 2 * below_U * np.add.reduceat(clicks_R, first_U)
    undefined_U = np.full(len(first_U), np.nan)
    return np.divide(twice_won_U, 2 * pairs_U, out=undefined_U, where=pairs_U > 0)


def relaimpr(auc: float, baseline: float) -> float:
    """Relative improvement in percent, ((AUC - .5) / (AUC of the baseline - .5) - 1) * 100.

    It is the measure of DIN (arXiv 1706.06978): a random ranking's .5 is taken off both sides.

    Raises:
        DataError: the baseline is .5, against which nothing can be relative.

    Example:
        >>> round(relaimpr(0.6283, 0.6205), 2)
        6.47
    """
    if baseline == 0.5:
        raise DataError(
            "RelaImpr needs a baseline that ranks better or worse than chance; found an AUC of "
            "0.5. Compare plain AUC differences instead."
        )
    return ((auc - 0.5) / (baseline - 0.5) - 1) * 100
