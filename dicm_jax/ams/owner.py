"""What an owner does with the rows asked of it: merge equal rows, sum their gradients.

Several workers want the same popular rows. The owner turns each row into a vector once and, on the
way back, sums the gradients that all workers send for it before anything is updated.

Shape legend
    M   rows asked for, over all workers       U   unique rows, U = M slots, the rest unused
    E   width of the vectors                   V   rows that this server owns
"""

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Merged:
    """The distinct rows among those asked for.

    Attributes:
      rows_U: distinct rows, ascending; unused slots hold distinct numbers from ``V`` upwards, so
        that a scatter may be promised unique indices and drops them.
      place_M: the slot in ``rows_U`` of each row asked for; None where it is its own place.
      count: number of distinct rows.
    """

    rows_U: Int[Array, " U"]
    place_M: Int[Array, " M"] | None
    count: Int[Array, ""]


def merge(wanted_M: Int[Array, " M"], n_rows: int, *, distinct: bool = True) -> Merged:
    """Find the distinct rows among `wanted_M`, by sorting.

    Args:
      wanted_M: rows asked for; ``n_rows`` marks an unused place.
      n_rows: ``V``, rows that this server owns.
      distinct: False gives each row asked for a slot of its own, however often it is.
    """
    slots = jnp.arange(len(wanted_M), dtype=jnp.int32)
    order_M = jnp.argsort(wanted_M)
    sorted_M = wanted_M[order_M]
    if distinct:
        is_first_M = jnp.concatenate([jnp.ones(1, bool), sorted_M[1:] != sorted_M[:-1]])
    else:
        is_first_M = jnp.ones(len(wanted_M), bool)
    rank_M = jnp.cumsum(is_first_M, dtype=jnp.int32) - 1
    rows_U = (n_rows + 1 + slots).at[rank_M].set(sorted_M)
    place_M = jnp.zeros_like(slots).at[order_M].set(rank_M, unique_indices=True)
    count = jnp.sum(is_first_M & (sorted_M < n_rows), dtype=jnp.int32)
    return Merged(rows_U, place_M, count)


def as_listed(wanted_M: Int[Array, " M"], n_rows: int) -> Merged:
    """Slots for rows that one requester asks for: its list is ascending, and ends unused.

    They are distinct rows where its list holds each row once.
    """
    slots = jnp.arange(len(wanted_M), dtype=jnp.int32)
    unused_M = wanted_M >= n_rows
    rows_U = jnp.where(unused_M, n_rows + slots, wanted_M)
    return Merged(rows_U, None, jnp.sum(~unused_M, dtype=jnp.int32))


def spread(vectors_UE: Float[Array, "U E"], merged: Merged, asked: int) -> Float[Array, "M E"]:
    """The vector of each of the `asked` rows, from those of the distinct ones."""
    if merged.place_M is None:
        return vectors_UE[:asked]
    return vectors_UE[merged.place_M]


def sum_gradients(gradients_ME: Float[Array, "M E"], merged: Merged) -> Float[Array, "U E"]:
    """Sum, for each distinct row, the gradients that came for it (summed in order of place)."""
    slots = len(merged.rows_U)
    if merged.place_M is None:
        return jnp.pad(gradients_ME, [(0, slots - len(gradients_ME)), (0, 0)])
    zeros_UE = jnp.zeros((slots, gradients_ME.shape[-1]), gradients_ME.dtype)
    return zeros_UE.at[merged.place_M].add(gradients_ME)
