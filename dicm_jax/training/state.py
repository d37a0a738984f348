"""Everything that training changes, and nothing that it does not.

Frozen feature tables are not part of the state: they are an argument of the step that is read only.
"""

import dataclasses
from typing import Any, no_type_check

import jax
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from dicm_jax.ams.feedback import Errors
from dicm_jax.ams.id_table import Table
from dicm_jax.ams.mesh import Roles, replicated, table_sharding


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Dense parameters as nested dicts, or what belongs to each of the two parts.

    Attributes:
      embedders: of the embedding models, by name.
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
      dense_optimizer: what Optax keeps for them, the two parts apart.
      ids: the ID table, with what the row-sparse optimiser keeps for each row.
      errors: what rounding owes to the gradients of rows, by the name of their list; empty where
        gradients travel exactly.
      moments: moving averages of the network's batch statistics; empty where it has none.
    """

    step: Int[Array, ""]
    params: Params
    dense_optimizer: Params
    ids: Table
    errors: dict[str, Errors]
    moments: dict[str, Any] = dataclasses.field(default_factory=dict)


StateOf: Any = TrainState
"""A `TrainState` that holds shardings or specs in the place of arrays."""
ParamsOf: Any = Params
"""`Params` that hold something else for each of the two parts."""


def state_shardings(state: TrainState, roles: Roles, *, embed_at_servers: bool) -> TrainState:
    """Where each array of a state lies.

    Tables lie by rows on the servers, errors with the workers that send, and dense parameters on
    every device of their role.
    """
    on_servers, on_workers = replicated(roles.servers), replicated(roles.workers)
    embedding = on_servers if embed_at_servers else on_workers

    def same(tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(lambda _: sharding, tree)

    return StateOf(
        step=on_servers,
        params=Params(same(state.params.embedders, embedding), same(state.params.net, on_workers)),
        dense_optimizer=Params(
            same(state.dense_optimizer.embedders, embedding),
            same(state.dense_optimizer.net, on_workers),
        ),
        ids=same(state.ids, table_sharding(roles.servers)),
        errors=same(state.errors, roles.lists_on_workers),
        moments=same(state.moments, on_workers),
    )
