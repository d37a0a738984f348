"""Adaptive regularisation: ID rows are pulled to zero, rare ones more (DIN v1, cited by DICM).

    g_i <- g_i + strength / n_i * row_i    for the rows i of the batch

``n_i`` is how often ID ``i`` occurs in the train split. A frequent ID meets the term in many
batches, each time with a small weight, so over an epoch every row is pulled about alike; without
it the rare IDs, which a model learns by heart, are pulled the least. A row of the batch counts
once, however often it stands there; a row that is absent is left alone. It is part of the
gradient, so it goes through the optimiser's moments.

Shape legend
    V   rows of the table     U   rows touched by a batch     E   embedding width
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from dicm_jax.ams.id_table import Table, UpdateRows
from dicm_jax.training.row_adam import RowAdam


@dataclasses.dataclass(frozen=True, eq=False)
class FrequencyDecay:
    """A row-sparse optimiser whose gradients are regularised first.

    Attributes:
      rows: the optimiser.
      pull_V: ``strength / n_i`` of each row.
    """

    rows: RowAdam
    pull_V: np.ndarray

    def init(self, row_VE: Float[Array, "V E"]) -> Table:
        """A table of the given rows, with what the optimiser keeps and each row's pull."""
        return self.rows.init(row_VE) | {"pull": jnp.asarray(self.pull_V, jnp.float32)}

    def at(self, step: Int[Array, ""], learning_rate: ArrayLike) -> UpdateRows:
        """The update of touched rows at step `step` (0 for the first)."""
        move = self.rows.at(step, learning_rate)

        def update(touched: Table, gradient_UE: Float[Array, "U E"]) -> Table:
            pull_U = touched["pull"]
            kept = {name: array for name, array in touched.items() if name != "pull"}
            return move(kept, gradient_UE + pull_U[:, None] * touched["row"]) | {"pull": pull_U}

        return update


def frequency_decay(
    rows: RowAdam, strength: float, row_of_key: np.ndarray, count_of_key: np.ndarray, n_rows: int
) -> FrequencyDecay:
    """The regularised optimiser for a table.

    Args:
      rows: the optimiser.
      strength: lambda.
      row_of_key: row of each key.
      count_of_key: how often each key occurs; a key that never does is as one that does once, and
        is never met.
      n_rows: rows of the table.
    """
    pull_V = np.zeros(n_rows, np.float32)
    pull_V[row_of_key] = strength / np.maximum(count_of_key, 1)
    return FrequencyDecay(rows, pull_V)
