"""Log loss of predicted click probabilities.

Shape legend
    B   impressions
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Real

from dicm_jax.metrics import checks


def log_loss(click_B: npt.ArrayLike, probability_B: npt.ArrayLike) -> float:
    """Mean of -log p(what happened), in nats, in float64.

    Probabilities are kept off 0 and 1 by the machine epsilon of their own type (float32: 1.2e-7),
    as scikit-learn does, so that one certain error costs 15.9 and not infinity. Types narrower
    than float32 count as float32.

    Args:
        click_B: 0 or 1 per impression.
        probability_B: probability of a click, in [0, 1], per impression.

    Raises:
        DataError: see `dicm_jax.metrics.checks`.

    Example:
        >>> round(log_loss([1, 0], [0.5, 0.5]), 6)
        0.693147
    """
    checks.check_shapes(click=click_B, probability=probability_B)
    click_B = checks.checked_clicks(click_B)
    return log_loss_of_checked(click_B, checks.checked_probabilities(probability_B))


def log_loss_of_checked(
    click_B: Bool[np.ndarray, "B"], probability_B: Real[np.ndarray, "B"]
) -> float:
    """`log_loss` of checked clicks and probabilities."""
    is_float = probability_B.dtype.kind == "f"
    epsilon = float(np.finfo(probability_B.dtype if is_float else np.float64).eps)
    likelihood_B = probability_B.astype(np.float64)
    np.subtract(1, likelihood_B, out=likelihood_B, where=~click_B)
    np.clip(likelihood_B, epsilon, 1 - epsilon, out=likelihood_B)
    np.log(likelihood_B, out=likelihood_B)
    return float(-likelihood_B.mean())
