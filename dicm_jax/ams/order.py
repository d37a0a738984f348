"""One exchange after another.

XLA:CPU runs what does not depend on each other side by side, and gives collectives inside a loop no
order among those outside it. Two devices may then wait in different collectives for each other, for
ever. Each exchange is therefore made to depend on a value that the one before it produced. On other
devices the dependency costs nothing.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from dicm_jax.ams.mesh import BOTH

T = TypeVar("T")


def after(x: T, *done: Array) -> T:
    """`x` unchanged, but not to be had before every array of `done` is.

    `lax.optimization_barrier` says the same, but XLA:CPU forgets it before it schedules. The
    comparison below is never true, which the compiler cannot know.
    """
    if not done or lax.axis_size(BOTH) == 1:
        return x
    never = jnp.stack([(_bits(array) | 1) == 0 for array in done]).any()
    return jax.tree.map(lambda leaf: jnp.where(never, jnp.zeros_like(leaf), leaf), x)


def _bits(array: Any) -> Array:
    # Not by reshape: the array may be a whole table, which a flat layout would have to copy.
    first = array[(0,) * array.ndim]
    if first.dtype == jnp.int32:
        return first
    return lax.bitcast_convert_type(first.astype(jnp.float32), jnp.int32)
