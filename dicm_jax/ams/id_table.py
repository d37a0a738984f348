"""ID tables at the servers: trainable rows, pulled by key and updated where they lie.

A table is a dict of arrays with the same row order: ``"row"``, the embedding, and whatever the
row-sparse optimiser keeps beside it. Only the rows that a batch touches are read or written, in
place: the arrays must be donated to the jitted step.

Shape legend
    V   rows that one server owns      K   slots of a device's list of unique rows
    W   workers along the worker axis  S   servers     C   rows between two devices in a round
    E   embedding width                U   unique rows at an owner
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from dicm_jax.ams import exchange, owner
from dicm_jax.ams.mesh import WORKER, table_sharding
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import Capacity, Request
from dicm_jax.ams.wire import Wire

Table = dict[str, Array]
"""Arrays ``[V, ...]`` of one table; ``"row"`` is the embedding."""

UpdateRows = Callable[[Table, Float[Array, "U E"]], Table]
"""Row-sparse optimiser: the touched rows of every array and their summed gradients to new rows."""


def init_rows(key: Array, mesh: Mesh, n_rows: int, width: int, scale: float | np.ndarray) -> Array:
    """Rows drawn from N(0, scale^2), made shard by shard where they will lie.

    The draw of a row depends on the row alone, not on the mesh.

    Args:
      key: of the draw.
      mesh: of the servers.
      n_rows, width: of the table.
      scale: one for all rows, or float32 ``[V, 1]``.
    """

    def draw(key: Array, scale: Array) -> Array:
        return scale * jax.random.normal(key, (n_rows, width), jnp.float32)

    return jax.jit(draw, out_shardings=table_sharding(mesh))(key, jnp.asarray(scale))


def pull(
    row_VE: Float[Array, "V E"], request: Request, capacity: Capacity, wire: Wire
) -> tuple[Float[Array, "K E"], Int[Array, "S C"]]:
    """The rows of `request`, at the places of its list; unused places are zero. Per device.

    Returns:
      The rows, and what this server was asked for last, for `push`.
    """
    rounds = exchange.agreed_rounds(request, capacity)

    def one_round(turn: Int[Array, ""] | int, made: tuple[Array, Array]) -> tuple[Array, Array]:
        road = exchange.route(request.rows_K, turn, rounds, capacity)
        wanted_SC = exchange.ask(request.rows_K, road, capacity)
        # Unused places read the last row, which nobody looks at; filling them costs more.
        rows_SCE = row_VE.at[wanted_SC].get(mode="clip")
        into_KE = exchange.give(rows_SCE, made[0], road, request.rows_K, capacity, wire)
        return into_KE, wanted_SC

    empty_KE = jnp.zeros((len(request.rows_K), row_VE.shape[-1]), row_VE.dtype)
    nothing_SC = jnp.zeros((capacity.servers, capacity.per_server), jnp.int32)
    return exchange.over_rounds(rounds, one_round, (empty_KE, nothing_SC))


def push(
    table: Table,
    gradients_KE: Float[Array, "K E"],
    request: Request,
    capacity: Capacity,
    wire: Wire,
    update_rows: UpdateRows,
    *,
    distinct: bool = True,
    wanted_SC: Int[Array, "S C"] | None = None,
) -> tuple[Table, Int[Array, " 1"]]:
    """Send gradients to the rows' owners, sum them per row and update just those rows. Per device.

    Replicas of a shard (one for each worker row of the mesh) gather each other's gradients and sum
    them in the same order, so they stay equal bit for bit.

    Args:
      table: rows, and what the optimiser keeps for each.
      gradients_KE: gradients of the rows of `request`, at the places of its list.
      request: as it was pulled.
      capacity: what the exchange is compiled for.
      wire: format of gradients on their way.
      update_rows: the row-sparse optimiser.
      distinct: whether a list holds each row once.
      wanted_SC: as `pull` returned it; None asks again.

    Returns:
      The table, and how many of its rows were updated.
    """
    rounds = exchange.agreed_rounds(request, capacity)

    def one_round(turn: Int[Array, ""] | int, done: tuple[Table, Array]) -> tuple[Table, Array]:
        table, updated = done
        road = exchange.route(request.rows_K, turn, rounds, capacity)
        asked_SC = exchange.asked_before(wanted_SC, request.rows_K, road, rounds, capacity)
        written_SC = exchange.give_back(gradients_KE, road, capacity, wire)
        wanted_M = _of_all_replicas(asked_SC).reshape(-1)
        gradients_WSCE = wire.read(_of_all_replicas(written_SC))
        if distinct and len(wanted_M) == capacity.per_server:
            merged = owner.as_listed(wanted_M, capacity.rows_per_server)
        else:
            merged = owner.merge(wanted_M, capacity.rows_per_server)
        gradients_UE = owner.sum_gradients(
            gradients_WSCE.reshape(-1, gradients_KE.shape[-1]), merged
        )
        table = _update(table, merged.rows_U, gradients_UE, update_rows)
        # The count tells what comes next that the exchange is over; the tables themselves would
        # have to be brought into another layout for that, on TPUs.
        return table, updated + after(merged.count, gradients_UE)

    return exchange.over_rounds(rounds, one_round, (table, jnp.zeros(1, jnp.int32)))


def _of_all_replicas(x: Array) -> Array:
    if lax.axis_size(WORKER) == 1:
        return x[None]
    return lax.all_gather(x, WORKER)


def _update(
    table: Table,
    rows_U: Int[Array, " U"],
    gradients_UE: Float[Array, "U E"],
    update_rows: UpdateRows,
) -> Table:
    # Slots behind the last row read it, and are dropped when they are written.
    touched = {
        name: array.at[rows_U].get(mode="clip", indices_are_sorted=True)
        for name, array in table.items()
    }
    updated = update_rows(touched, gradients_UE)
    return {
        name: array.at[rows_U].set(
            updated[name], mode="drop", unique_indices=True, indices_are_sorted=True
        )
        for name, array in table.items()
    }
