"""Everything that training changes, and nothing that it does not.

The frozen feature table is not part of the state: it is an argument of the step that is read only.
"""

import dataclasses
from typing import Any, no_type_check

import jax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Int

from dicm_jax.ams.id_table import Table
from dicm_jax.ams.mesh import replicated, table_sharding


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Dense parameters, the same on every device, as nested dicts.

    Attributes:
      embedders: of the servers' embedding models, by name.
      net: of the workers' network.
    """

    embedders: dict[str, Any]
    net: dict[str, Any]


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes.

    Attributes:
      step: steps taken.
      params: dense parameters.
      dense_optimizer: what Optax keeps for them.
      ids: the ID table, with what the row-sparse optimiser keeps for each row.
    """

    step: Int[Array, ""]
    params: Params
    dense_optimizer: Any
    ids: Table


StateOf: Any = TrainState
"""A `TrainState` that holds shardings or specs in the place of arrays."""


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """Where each array of a state lies: tables by rows on the servers, the rest everywhere."""
    everywhere, by_rows = replicated(mesh), table_sharding(mesh)

    def same(tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(lambda _: sharding, tree)

    return StateOf(
        step=everywhere,
        params=same(state.params, everywhere),
        dense_optimizer=same(state.dense_optimizer, everywhere),
        ids=same(state.ids, by_rows),
    )
