"""Learning rates by step."""

import jax.numpy as jnp
import optax


def staircase(learning_rate: float, rate: float, every: int) -> optax.Schedule:
    """The paper's decay (section 7.2): ``learning_rate * rate ** floor(step / every)``."""
    decay = optax.exponential_decay(learning_rate, every, rate, staircase=True)
    return lambda step: decay(jnp.asarray(step, jnp.float32))


def cosine(learning_rate: float, steps: int) -> optax.Schedule:
    """From `learning_rate` to zero along half a cosine over `steps`, those of all epochs."""
    decay = optax.cosine_decay_schedule(learning_rate, steps)
    return lambda step: decay(jnp.asarray(step, jnp.float32))
