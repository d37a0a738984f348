"""Learning rates by step."""

import optax


def staircase(learning_rate: float, rate: float, every: int) -> optax.Schedule:
    """The paper's decay (section 7.2): ``learning_rate * rate ** floor(step / every)``."""
    return optax.exponential_decay(learning_rate, every, rate, staircase=True)


def cosine(learning_rate: float, steps: int) -> optax.Schedule:
    """From `learning_rate` to zero along half a cosine over the run's `steps`."""
    return optax.cosine_decay_schedule(learning_rate, steps)
