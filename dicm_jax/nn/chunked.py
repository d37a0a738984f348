"""A function of many rows, a chunk of rows at a time.

Shape legend
    B   rows      C   rows of a chunk
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def in_chunks(function: Callable[..., jax.Array], chunk: int, *arrays_B: jax.Array) -> jax.Array:
    """``function(*arrays)`` for a function whose rows do not depend on each other.

    What a chunk computes on its way is not kept for the backward pass but computed again there:
    memory is that of one chunk, and on CPUs, where fresh memory costs more than arithmetic, that
    makes attention over tens of behaviors more than twice as fast.

    Args:
      function: of arrays with the same dim 0, to one array with that dim 0.
      chunk: rows at a time.
      arrays_B: what it is applied to.
    """
    rows = arrays_B[0].shape[0]  # may be a symbol, where programs are exported
    if rows <= chunk:
        return function(*arrays_B)
    n_chunks = -(-rows // chunk)
    chunks = [_cut(array_B, n_chunks, chunk) for array_B in arrays_B]
    out = lax.map(jax.checkpoint(lambda parts: function(*parts)), chunks)
    return out.reshape(-1, *out.shape[2:])[:rows]


def _cut(array_B: jax.Array, n_chunks: int, chunk: int) -> jax.Array:
    spare = n_chunks * chunk - len(array_B)
    padded = jnp.pad(array_B, [(0, spare)] + [(0, 0)] * (array_B.ndim - 1))
    return padded.reshape(n_chunks, chunk, *array_B.shape[1:])
