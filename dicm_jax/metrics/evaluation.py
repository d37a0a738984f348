"""All measures of one set of predictions at once.

Shape legend
    B   impressions
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from dicm_jax.metrics import checks
from dicm_jax.metrics.logloss import log_loss_of_checked
from dicm_jax.metrics.ranking import auc_by_user_of_codes, auc_of_codes
from dicm_jax.metrics.sort_keys import rank_codes


@dataclasses.dataclass(frozen=True)
class Scores:
    """The measures of one set of predictions, and what they were taken over.

    Attributes:
        gauc: impression-weighted mean of the users' AUC; NaN if no user has both classes.
        auc: AUC over all impressions; NaN if they are of one class.
        logloss: mean log loss in nats.
        impressions: impressions scored; `auc` and `logloss` count every one.
        clicks: how many of them were clicked.
        users_counted: users with both classes, over whom `gauc` is taken.
        users_left_out: users of one class, whom `gauc` leaves out.
        impressions_left_out: the impressions of the users left out.
    """

    gauc: float
    auc: float
    logloss: float
    impressions: int
    clicks: int
    users_counted: int
    users_left_out: int
    impressions_left_out: int


def score(user_B: npt.ArrayLike, click_B: npt.ArrayLike, probability_B: npt.ArrayLike) -> Scores:
    """Scores predictions by exact AUC, GAUC and log loss.

    10 million impressions take one to a few seconds and about 0.8 GiB; `python -m
    benchmarks.metrics` measures it. Padding has to be taken out before.

    Args:
        user_B: integer user ID per impression, in any order.
        click_B: 0 or 1 per impression.
        probability_B: predicted probability of a click per impression, in [0, 1]. float32 is
            the fast path; any other real type is as exact.

    Raises:
        DataError: see `dicm_jax.metrics.checks`.

    Example:
        >>> scores = score([7, 7, 9, 9, 9], [0, 1, 1, 0, 0], [0.1, 0.2, 0.5, 0.5, 0.9])
        >>> scores.gauc, scores.users_counted, scores.users_left_out
        (0.55, 2, 0)
    """
    checks.check_shapes(user=user_B, click=click_B, probability=probability_B)
    user_B, click_B = checks.checked_users(user_B), checks.checked_clicks(click_B)
    probability_B = checks.checked_probabilities(probability_B)
    rank_code_B = rank_codes(probability_B)
    by_user = auc_by_user_of_codes(user_B, rank_code_B, click_B)
    counted_U = by_user.is_counted
    return Scores(
        gauc=by_user.gauc(),
        auc=auc_of_codes(rank_code_B, click_B),
        logloss=log_loss_of_checked(click_B, probability_B),
        impressions=len(click_B),
        clicks=int(np.count_nonzero(click_B)),
        users_counted=int(np.count_nonzero(counted_U)),
        users_left_out=int(np.count_nonzero(~counted_U)),
        impressions_left_out=int(by_user.impressions_U[~counted_U].sum()),
    )
