"""Error feedback: what rounding took from a gradient is added to the next one for the same row.

    sent = round(gradient + error[row]),   error[row] <- gradient + error[row] - sent

so that over many steps an owner receives the sum of the gradients and not of their roundings (Seide
et al. 2014; Karimireddy et al. 2019). Errors are kept where gradients are sent from, for the rows
sent last: a row has one place, ``row mod R``, which it may share with others. A row whose place is
taken by another loses its error, at most half a step of the wire's format for each element; with as
many places as rows none ever is.

Shape legend
    K   slots of a requester's list of rows     R   places for errors     E   width of vectors
"""

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dicm_jax.ams.plan import UNUSED, Leaf
from dicm_jax.ams.wire import Wire, rounded


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of the rows that a requester sent gradients for.

    Attributes:
      row_R: int32, the row that each place belongs to; `UNUSED` where none.
      error_RE: float32, what is still owed to it.
    """

    row_R: Leaf
    error_RE: Leaf


def no_errors(places: int, width: int) -> Errors:
    """Empty places, as NumPy arrays."""
    return Errors(np.full(places, UNUSED, np.int32), np.zeros((places, width), np.float32))


def correct(
    errors: Errors, rows_K: Int[Array, " K"], gradients_KE: Float[Array, "K E"], wire: Wire
) -> tuple[Float[Array, "K E"], Errors]:
    """The gradients to send, as they will be read, and the errors that this leaves."""
    places = len(errors.row_R)
    in_use_K = rows_K != UNUSED
    place_K = jnp.where(in_use_K, rows_K % places, places)
    owed_K = in_use_K & (errors.row_R.at[place_K].get(mode="fill", fill_value=UNUSED) == rows_K)
    error_KE = errors.error_RE.at[place_K].get(mode="fill", fill_value=0)
    wanted_KE = gradients_KE + jnp.where(owed_K[:, None], error_KE, 0.0)
    sent_KE = rounded(wire, wanted_KE)
    # Of several rows of a batch with one place, the last one in the list has it.
    last_R = jnp.full(places, -1, jnp.int32)
    last_R = last_R.at[place_K].max(jnp.arange(len(rows_K), dtype=jnp.int32), mode="drop")
    taken_R = last_R >= 0
    row_R = jnp.where(taken_R, rows_K[last_R], errors.row_R)
    left_RE = (wanted_KE - sent_KE)[last_R]
    return sent_KE, Errors(row_R, jnp.where(taken_R[:, None], left_RE, errors.error_RE))
