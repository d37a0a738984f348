"""Row-sparse ("lazy") Adam: only the rows that a batch touches move, and only their moments decay.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    row <- row - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

with ``t`` the number of steps of the run. A row that is absent keeps its moments as they are,
unlike in Adam over the whole table, where they fade at every step (the same choice as PyTorch's
SparseAdam). Time and memory traffic grow with the rows of a batch, not with the table.

Shape legend
    U   rows touched by a batch      E   embedding width
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from dicm_jax.ams.id_table import Table, UpdateRows


@runtime_checkable
class RowOptimizer(Protocol):
    """Moves the rows that a batch touches."""

    def init(self, row_VE: Float[Array, "V E"]) -> Table:
        """A table of the given rows, with what is kept for each."""
        ...

    def at(self, step: Int[Array, ""], learning_rate: ArrayLike) -> UpdateRows:
        """The update of touched rows at step `step` (0 for the first)."""
        ...


@dataclasses.dataclass(frozen=True)
class RowAdam:
    """Settings of the row-sparse optimiser.

    Attributes:
      b1, b2: decay of the first and second moment, in [0, 1).
      eps: added to the root of the second moment.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def init(self, row_VE: Float[Array, "V E"]) -> Table:
        """A table of the given rows with zero moments."""
        return {"row": row_VE, "mu": jnp.zeros_like(row_VE), "nu": jnp.zeros_like(row_VE)}

    def at(self, step: Int[Array, ""], learning_rate: ArrayLike) -> UpdateRows:
        """The update of touched rows at step `step` (0 for the first)."""
        rate = jnp.asarray(learning_rate, jnp.float32)
        t = (step + 1).astype(jnp.float32)
        correction_m = 1.0 - jnp.power(self.b1, t)
        correction_v = 1.0 - jnp.power(self.b2, t)

        def update(touched: Table, gradient_UE: Float[Array, "U E"]) -> Table:
            mu_UE = self.b1 * touched["mu"] + (1.0 - self.b1) * gradient_UE
            nu_UE = self.b2 * touched["nu"] + (1.0 - self.b2) * jnp.square(gradient_UE)
            denominator_UE = jnp.sqrt(nu_UE / correction_v) + self.eps
            row_UE = touched["row"] - rate * (mu_UE / correction_m) / denominator_UE
            return {"row": row_UE, "mu": mu_UE, "nu": nu_UE}

        return update
