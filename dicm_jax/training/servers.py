"""What the servers do in a step: answer requests, and take gradients back. Per device.

Shape legend
    K   slots of a list of rows     E   embedding width
"""

import dataclasses
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dicm_jax.ams import id_table
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.id_table import Table, UpdateRows
from dicm_jax.ams.mesh import BOTH, WORKER
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.ams.strategy import Channel, Kept, Strategy
from dicm_jax.ams.wire import Wire
from dicm_jax.training.batch import IDS, ServerBatch

Tables = dict[str, FeatureTable]
"""Feature tables in device memory, by content."""


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lists:
    """Something for every row of a requester's lists: what was pulled, or its gradients.

    Attributes:
      ids_KE: of ID rows.
      content: by embedding model.
    """

    ids_KE: Any
    content: dict[str, Any]


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Traffic:
    """Rows of a step, summed over devices, by list (`IDS`, or an embedding model).

    Attributes:
      places: places of the batch where a row stands.
      listed: rows asked for: what is left after de-duplication within a worker.
      handled: rows embedded, or ID rows updated: what is left after de-duplication across workers.
    """

    places: dict[str, Array]
    listed: dict[str, Array]
    handled: dict[str, Array]


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answered:
    """What servers keep of a pull until its gradients come.

    Attributes:
      ids: ID rows that a server was asked for.
      content: by embedding model; None where it runs on the workers.
    """

    ids: Any
    content: dict[str, Kept | None]


@dataclasses.dataclass(frozen=True)
class Exchanges:
    """How everything that a model pulls is asked for, made and sent.

    Attributes:
      strategy: where embedding models run.
      content: by embedding model.
      tables: the content behind each embedding model.
      ids: what the exchange of ID rows is compiled for.
      id_wire: format of ID rows and their gradients on their way.
      distinct: whether lists hold each row once.
    """

    strategy: Strategy
    content: dict[str, Channel]
    tables: dict[str, str]
    ids: Capacity
    id_wire: Wire
    distinct: bool = True

    @property
    def wires(self) -> dict[str, Wire]:
        """The wire that the gradients of each list go by; none for what is not pushed."""
        pushed = self.content if self.strategy.at_servers else {}
        return {IDS: self.id_wire} | {name: channel.wire for name, channel in pushed.items()}


def pull(
    exchanges: Exchanges,
    row_VE: Float[Array, "V E"],
    embedders: dict[str, Any],
    tables: Tables,
    batch: ServerBatch,
    done: Array,
) -> tuple[Lists, Answered]:
    """Answer all requests, one exchange after another, the first after `done`.

    Args:
      exchanges: how.
      row_VE: this server's ID rows.
      embedders: parameters of embedding models; empty where they live on the workers.
      tables: feature tables in device memory.
      batch: the requests, and tables staged for them.
      done: what the exchange before this step's first produced.

    Returns:
      What was asked for, and what `push` needs to know of it.
    """
    with jax.named_scope("pull_ids"):
        request = after(batch.ids, done)
        ids_KE, wanted_SC = id_table.pull(row_VE, request, exchanges.ids, exchanges.id_wire)
    given, kept, done = {}, {}, ids_KE
    for name, channel in exchanges.content.items():
        with jax.named_scope(f"pull_content_{name}"):
            given[name], kept[name] = exchanges.strategy.serve(
                channel,
                embedders.get(name),
                _table(exchanges, tables, batch, name),
                after(batch.content[name], done),
            )
        done = next(iter(jax.tree.leaves(given[name])), done)
    return Lists(ids_KE, given), Answered(wanted_SC, kept)


def push_content(
    exchanges: Exchanges,
    embedders: dict[str, Any],
    tables: Tables,
    batch: ServerBatch,
    gradients: dict[str, Array],
    kept: Answered,
) -> dict[str, Any]:
    """This server's share of the gradients of the embedding models; none where they live elsewhere.

    Args:
      exchanges, embedders, tables, batch: as for `pull`.
      gradients: of the vectors that were pulled.
      kept: as `pull` returned it.
    """
    pushed = {}
    for name, gradients_KE in gradients.items():
        done = [gradients_KE, *jax.tree.leaves(pushed)]
        with jax.named_scope(f"push_content_{name}"):
            pushed[name] = exchanges.strategy.push(
                exchanges.content[name],
                embedders[name],
                _table(exchanges, tables, batch, name),
                after(batch.content[name], *done),
                gradients_KE,
                kept.content[name],
            )
    return pushed


def push_ids(
    exchanges: Exchanges,
    table: Table,
    request: Request,
    gradients_KE: Float[Array, "K E"],
    kept: Answered,
    update_rows: UpdateRows,
) -> tuple[Table, Array]:
    """The ID table with the touched rows moved, and how many they are."""
    with jax.named_scope("push_ids"):
        return id_table.push(
            table,
            gradients_KE,
            request,
            exchanges.ids,
            exchanges.id_wire,
            update_rows,
            distinct=exchanges.distinct,
            wanted_SC=kept.ids,
        )


def traffic(
    batch: ServerBatch, kept: Answered, updated: Array, done: Array
) -> tuple[Traffic, Array]:
    """Rows of this step over all servers, and the most rounds of any exchange; after `done`."""
    requests = {IDS: batch.ids} | batch.content
    places = {name: request.places[0] for name, request in requests.items()}
    listed = {name: _in_use(request) for name, request in requests.items()}
    embedded = {name: made.embedded[0] for name, made in kept.content.items() if made is not None}
    # Replicas of a table update the same rows; counted once, on the first of them.
    once = jnp.where(lax.axis_index(WORKER) == 0, updated[0], 0)
    counted = Traffic(places, listed, listed | embedded | {IDS: once})
    counted = lax.psum(after(counted, done), BOTH)
    rounds = jnp.max(jnp.stack([request.rounds[0] for request in requests.values()]))
    return counted, lax.pmax(after(rounds, counted.places[IDS]), BOTH)


def _in_use(request: Request) -> Array:
    return jnp.sum(request.rows_K != UNUSED, dtype=jnp.int32)


def _table(exchanges: Exchanges, tables: Tables, batch: ServerBatch, name: str) -> Any:
    """The table behind an embedding model; None where batches bring their rows to workers."""
    if exchanges.strategy.rows_in_batch:
        return None
    return batch.staged[name] if name in batch.staged else tables[exchanges.tables[name]]
