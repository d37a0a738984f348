"""Stop at the first NaN or infinity, and say where it came from."""

import math
from collections.abc import Mapping

from dicm_jax.errors import NonFiniteError


def check_finite(step: int, magnitudes: Mapping[str, float]) -> None:
    """Raise unless every watched tensor of a step is finite.

    Args:
      step: the step.
      magnitudes: sum of squares of each tensor, in the order in which the step makes them: the
        first one that is not finite is where to look.

    Raises:
      NonFiniteError: names the step, the first tensor and how many follow.
    """
    bad = [name for name, value in magnitudes.items() if not math.isfinite(value)]
    if bad:
        others = f" (and {len(bad) - 1} tensors behind it)" if len(bad) > 1 else ""
        raise NonFiniteError(
            f"step {step}: {bad[0]} has NaN or infinity{others}; the last checkpoint is from"
            " before it. Look at the inputs of that step, or lower optimizer.learning_rate"
        )
