"""Running an embedding model over many frozen rows, forward and backward, a chunk at a time.

Only as many chunks are run as there are rows in use: room for a batch's worst case costs no
arithmetic. Whole chunks come first, then what is left in smaller ones, so that little is computed
for nothing on many devices with few rows each.

An embedding model is cut where it gets narrow: the first, wide product is kept for the backward
pass, the rows themselves are not; they are gathered again.

Shape legend
    U   slots for rows     N   rows of a chunk     D   content width
    H   width behind the wide product     E   embedding width
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dicm_jax.ams.feature_table import ContentRows

T = TypeVar("T")
Params = Any
"""Parameters of an embedding model, a tree of arrays."""

RowsOf = Callable[[Int[Array, ""], int], ContentRows]
"""From the first slot and a number of slots to the content rows that stand there."""
HiddenOf = Callable[[Int[Array, ""], ContentRows], Float[Array, "N H"]]
"""From the first slot of a chunk, and its rows, to what the wide product made of them."""


@dataclasses.dataclass(frozen=True)
class Embedder:
    """An embedding model as two pure functions, one behind the other.

    Attributes:
      wide: from parameters and rows ``[N, D]`` to ``[N, H]``: all that touches the content's width.
      narrow: from parameters and ``[N, H]`` to vectors ``[N, E]``.
      hidden_width: ``H``.
      width: ``E``.
    """

    wide: Callable[[Params, ContentRows], Float[Array, "N H"]]
    narrow: Callable[[Params, Float[Array, "N H"]], Float[Array, "N E"]]
    hidden_width: int
    width: int


@dataclasses.dataclass(frozen=True)
class Chunks:
    """How many rows are embedded at a time.

    Attributes:
      whole: rows of a chunk. On CPUs a few hundred: XLA reuses buffers of some MiB and page-faults
        on larger ones. On accelerators thousands, to fill the device.
      rest: rows of the smaller chunks at the end; divides `whole`.
    """

    whole: int = 512
    rest: int = 64

    def slots(self, wanted: int) -> int:
        """Slots for `wanted` rows, a whole number of chunks of the rest."""
        return -(-wanted // self.rest) * self.rest

    def over(
        self, count: Int[Array, ""], slots: int, one: Callable[[Array, int, T], T], carry: T
    ) -> T:
        """Apply ``one(first slot, slots, carry)`` to the chunks that `count` rows fill."""
        first: Array | int = 0
        if slots >= self.whole:
            n_whole = count // self.whole
            carry = lax.fori_loop(
                0, n_whole, lambda i, c: one(i * self.whole, self.whole, c), carry
            )
            first = n_whole * self.whole
        n_rest = (count - first + self.rest - 1) // self.rest
        return lax.fori_loop(
            0, n_rest, lambda i, c: one(first + i * self.rest, self.rest, c), carry
        )


def forward(
    embedder: Embedder,
    params: Params,
    rows_of: RowsOf,
    count: Int[Array, ""],
    slots: int,
    chunks: Chunks,
) -> tuple[Float[Array, "U E"], Float[Array, "U H"]]:
    """Vectors of the first `count` slots, and what the wide product made of their rows.

    Slots behind `count` hold zeros, or vectors of zero rows that nobody asked for.
    """

    def one(first: Array, size: int, made: tuple[Array, Array]) -> tuple[Array, Array]:
        hidden_NH = embedder.wide(params, rows_of(first, size))
        vectors_NE = embedder.narrow(params, hidden_NH)
        return (
            lax.dynamic_update_slice_in_dim(made[0], vectors_NE, first, axis=0),
            lax.dynamic_update_slice_in_dim(made[1], hidden_NH, first, axis=0),
        )

    empty = jnp.zeros((slots, embedder.width)), jnp.zeros((slots, embedder.hidden_width))
    return chunks.over(count, slots, one, empty)


def backward(
    embedder: Embedder,
    params: Params,
    rows_of: RowsOf,
    hidden_of: HiddenOf,
    count: Int[Array, ""],
    gradients_UE: Float[Array, "U E"],
    chunks: Chunks,
    total: Params,
) -> Params:
    """`total` plus the gradient of the parameters, given the gradients of the vectors."""

    def one(first: Array, size: int, total: Params) -> Params:
        rows = rows_of(first, size)
        gradients_NE = lax.dynamic_slice_in_dim(gradients_UE, first, size)
        _, back = jax.vjp(embedder.narrow, params, hidden_of(first, rows))
        of_narrow, g_hidden_NH = back(gradients_NE)
        # The product itself is dead code here; only its gradient is computed.
        _, back = jax.vjp(lambda p: embedder.wide(p, rows), params)
        (of_wide,) = back(g_hidden_NH)
        return jax.tree.map(lambda t, a, b: t + (a + b).T, total, of_narrow, of_wide)

    # Summed as the product comes, transposed (see `nn.frozen_dot`), and turned once at the end.
    turned = jax.tree.map(jnp.transpose, total)
    return jax.tree.map(jnp.transpose, chunks.over(count, len(gradients_UE), one, turned))


def kept_hidden(hidden_UH: Float[Array, "U H"]) -> HiddenOf:
    """Take the wide product's results from where `forward` left them."""
    return lambda first, rows: lax.dynamic_slice_in_dim(hidden_UH, first, len(rows.value_UD))
