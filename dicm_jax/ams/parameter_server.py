"""What one does without a model server: raw rows go to the workers, which embed them.

`ParameterServer` ("ps_server"): rows lie at servers and travel in their format for rest, each once
for a worker; nothing travels back, since rows are frozen. `RowsInBatch` ("ps_worker"): the rows of
a batch come with its samples, each once for a worker; nothing travels between devices at all.

Shape legend
    K   slots of a worker's list of rows     S   servers     D   content width
    C   rows between two devices in a round  E   width of the vectors
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dicm_jax.ams import exchange
from dicm_jax.ams.content import of_table
from dicm_jax.ams.embedding import Params, RowsOf, backward, forward, kept_hidden
from dicm_jax.ams.feature_table import ContentRows, FeatureTable, gather
from dicm_jax.ams.plan import UNUSED, Request
from dicm_jax.ams.strategy import Channel, Given, Kept


@dataclasses.dataclass(frozen=True)
class _AtWorkers:
    """Embedding models run on the workers, on rows that lie in the order of their lists."""

    at_servers = False

    def embed(
        self, channel: Channel, params: Params | None, given: Given, request: Request
    ) -> tuple[Float[Array, "K E"], Kept]:
        """Vectors of the rows that came, at the places of the list; unused places are zero."""
        count = jnp.sum(request.rows_K != UNUSED, dtype=jnp.int32)
        slots = channel.chunks.slots(len(given.stored_VD))
        vectors_UE, hidden_UH = forward(
            channel.embedder, params, _in_order(given), count, slots, channel.chunks
        )
        in_use_U1 = (jnp.arange(slots, dtype=jnp.int32) < count)[:, None]
        room = min(slots, len(request.rows_K))
        vectors_KE = jnp.zeros((len(request.rows_K), channel.embedder.width))
        vectors_KE = vectors_KE.at[:room].set(jnp.where(in_use_U1, vectors_UE, 0.0)[:room])
        return vectors_KE, Kept(hidden_UH, count[None])

    def gradient_at_worker(
        self,
        channel: Channel,
        params: Params | None,
        given: Given,
        kept: Kept | None,
        gradients_KE: Float[Array, "K E"],
    ) -> Params:
        """Gradient of the parameters, summed over this worker's rows; the caller sums workers."""
        assert kept is not None
        slots = len(kept.hidden)
        gradients_UE = jnp.zeros((slots, gradients_KE.shape[-1]))
        room = min(slots, len(gradients_KE))
        gradients_UE = gradients_UE.at[:room].set(gradients_KE[:room])
        return backward(
            channel.embedder,
            params,
            _in_order(given),
            kept_hidden(kept.hidden),
            kept.embedded[0],
            gradients_UE,
            channel.chunks,
            jax.tree.map(jnp.zeros_like, params),
        )

    def push(
        self,
        channel: Channel,
        params: Params | None,
        table: FeatureTable | None,
        request: Request,
        gradients_KE: Float[Array, "K E"],
        kept: Kept | None,
    ) -> None:
        """Nothing: rows are frozen, and the parameters are the workers'."""


@dataclasses.dataclass(frozen=True)
class ParameterServer(_AtWorkers):
    """Strategy ``ps_server``: servers send raw rows."""

    rows_in_batch = False

    def serve(
        self, channel: Channel, params: Params | None, table: FeatureTable | None, request: Request
    ) -> tuple[FeatureTable, None]:
        """The raw rows of `request`, in their format for rest, at the places of its list."""
        assert table is not None
        capacity = of_table(channel.capacity, table)
        rounds = exchange.agreed_rounds(request, capacity)

        def one_round(turn: Int[Array, ""] | int, into: FeatureTable) -> FeatureTable:
            road = exchange.route(request.rows_K, turn, rounds, capacity)
            wanted_SC = exchange.ask(request.rows_K, road, capacity)

            def bring(at_rest_V: Array, into_K: Array) -> Array:
                rows_SC = at_rest_V.at[wanted_SC].get(mode="fill", fill_value=0)
                received_SC = exchange.send(rows_SC)
                return exchange.put(received_SC, into_K, road, request.rows_K, capacity)

            return jax.tree.map(bring, table, into)

        slots = len(request.rows_K)
        empty = jax.tree.map(lambda x: jnp.zeros((slots, *x.shape[1:]), x.dtype), table)
        return exchange.over_rounds(rounds, one_round, empty), None


@dataclasses.dataclass(frozen=True)
class RowsInBatch(_AtWorkers):
    """Strategy ``ps_worker``: the batch brings the raw rows, which the step gives to `embed`."""

    rows_in_batch = True

    def serve(
        self, channel: Channel, params: Params | None, table: FeatureTable | None, request: Request
    ) -> tuple[None, None]:
        """Nothing: there are no rows at servers."""
        return None, None


def _in_order(given: FeatureTable) -> RowsOf:
    def rows_of(first: Array, size: int) -> ContentRows:
        return gather(given, first + jnp.arange(size, dtype=jnp.int32))

    return rows_of
