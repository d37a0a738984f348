"""The operator of the Advanced Model Server: frozen rows in, compressed vectors out, at the owner.

`serve` gathers the wanted rows where they lie, runs the embedding model there and sends back only
its narrow vectors. `push` takes the vectors' gradients the same way back, gathers the rows *again*
and returns the gradient of the embedding model's parameters (paper section 4.2, SERVER_EMBED and
SERVER_UPDATE of Algorithm 1). Nothing of the content's width is kept between the two, and nothing
of that width leaves its owner.

Shape legend
    K   slots of a requester's list of rows         S   servers
    C   rows between two devices in a round         U   unique rows at an owner (slots)
    E   width of the vectors                        H   width behind the wide product
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dicm_jax.ams import exchange, owner
from dicm_jax.ams.embedding import Chunks, HiddenOf, Params, RowsOf, backward, forward, kept_hidden
from dicm_jax.ams.feature_table import ContentRows, FeatureTable, gather
from dicm_jax.ams.mesh import SERVER
from dicm_jax.ams.plan import Capacity, Request
from dicm_jax.ams.strategy import Channel, Given, Kept


@dataclasses.dataclass(frozen=True)
class ModelServer:
    """Strategy ``ams``: embedding models run where the rows lie."""

    at_servers = True
    rows_in_batch = False

    def serve(
        self, channel: Channel, params: Params | None, table: FeatureTable | None, request: Request
    ) -> tuple[Float[Array, "K E"], Kept]:
        """Vectors of the rows of `request`, at the places of its list; unused places are zero."""
        assert table is not None
        capacity = of_table(channel.capacity, table)
        rounds = exchange.agreed_rounds(request, capacity)
        embedder, chunks = channel.embedder, channel.chunks

        def one_round(turn: Int[Array, ""] | int, made: tuple[Array, Kept]) -> tuple[Array, Kept]:
            road = exchange.route(request.rows_K, turn, rounds, capacity)
            wanted_SC = exchange.ask(request.rows_K, road, capacity)
            merged = _merge(wanted_SC, capacity, channel)
            vectors_UE, hidden_UH = forward(
                embedder,
                params,
                _rows_of(table, merged),
                merged.count,
                len(merged.rows_U),
                chunks,
            )
            asked = capacity.servers * capacity.per_server
            vectors_ME = owner.spread(vectors_UE, merged, asked)
            vectors_SCE = vectors_ME.reshape(capacity.servers, capacity.per_server, -1)
            vectors_KE = exchange.give(
                vectors_SCE, made[0], road, request.rows_K, capacity, channel.wire
            )
            return vectors_KE, Kept(hidden_UH, made[1].embedded + merged.count, wanted_SC)

        slots = _slots(capacity, chunks)
        nothing = Kept(
            jnp.zeros((slots, embedder.hidden_width)),
            jnp.zeros(1, jnp.int32),
            jnp.zeros((capacity.servers, capacity.per_server), jnp.int32),
        )
        empty_KE = jnp.zeros((len(request.rows_K), embedder.width))
        return exchange.over_rounds(rounds, one_round, (empty_KE, nothing))

    def embed(
        self, channel: Channel, params: Params | None, given: Given, request: Request
    ) -> tuple[Float[Array, "K E"], None]:
        """Nothing is left to do: the vectors came."""
        return given, None

    def gradient_at_worker(
        self,
        channel: Channel,
        params: Params | None,
        given: Given,
        kept: Kept | None,
        gradients_KE: Float[Array, "K E"],
    ) -> None:
        """Nothing: the gradient is the servers' business."""

    def push(
        self,
        channel: Channel,
        params: Params | None,
        table: FeatureTable | None,
        request: Request,
        gradients_KE: Float[Array, "K E"],
        kept: Kept | None,
    ) -> Params:
        """Gradient of the parameters, summed over this server's rows; the caller sums servers."""
        assert kept is not None
        assert table is not None
        capacity = of_table(channel.capacity, table)
        rounds = exchange.agreed_rounds(request, capacity)

        def one_round(turn: Int[Array, ""] | int, total: Params) -> Params:
            road = exchange.route(request.rows_K, turn, rounds, capacity)
            wanted_SC = exchange.asked_before(kept.wanted, request.rows_K, road, rounds, capacity)
            merged = _merge(wanted_SC, capacity, channel)
            written_SC = exchange.give_back(gradients_KE, road, capacity, channel.wire)
            gradients_SCE = channel.wire.read(written_SC)
            gradients_UE = owner.sum_gradients(
                gradients_SCE.reshape(-1, gradients_KE.shape[-1]), merged
            )
            in_use_U1 = (jnp.arange(len(gradients_UE), dtype=jnp.int32) < merged.count)[:, None]
            gradients_UE = jnp.where(in_use_U1, gradients_UE, 0.0)
            hidden_of = _hidden_of(channel, params, kept.hidden, rounds)
            return backward(
                channel.embedder,
                params,
                _rows_of(table, merged),
                hidden_of,
                merged.count,
                gradients_UE,
                channel.chunks,
                total,
            )

        return exchange.over_rounds(rounds, one_round, jax.tree.map(jnp.zeros_like, params))


def of_table(capacity: Capacity, table: FeatureTable) -> Capacity:
    """`capacity` for the rows that this server holds, which change where tables are staged."""
    return dataclasses.replace(capacity, rows_per_server=len(table.stored_VD))


def _hidden_of(channel: Channel, params: Params, hidden_UH: Array, rounds: Array | int) -> HiddenOf:
    """From the forward pass; computed again where it took rounds, since only the last is kept."""
    kept = kept_hidden(hidden_UH)
    if isinstance(rounds, int):
        return kept

    def hidden_of(first: Array, rows: ContentRows) -> Array:
        return lax.cond(
            rounds == 1,
            lambda: kept(first, rows),
            lambda: channel.embedder.wide(params, rows),
        )

    return hidden_of


def _rows_of(table: FeatureTable, merged: owner.Merged) -> RowsOf:
    def rows_of(first: Array, size: int) -> ContentRows:
        return gather(table, lax.dynamic_slice_in_dim(merged.rows_U, first, size))

    return rows_of


def _slots(capacity: Capacity, chunks: Chunks) -> int:
    return chunks.slots(capacity.servers * capacity.per_server)


def _merge(wanted_SC: Int[Array, "S C"], capacity: Capacity, channel: Channel) -> owner.Merged:
    """The distinct rows wanted, their slots padded to whole chunks."""
    wanted_M = wanted_SC.reshape(-1)
    if lax.axis_size(SERVER) == 1:
        merged = owner.as_listed(wanted_M, capacity.rows_per_server)
    else:
        merged = owner.merge(wanted_M, capacity.rows_per_server, distinct=channel.merge)
    spare = _slots(capacity, channel.chunks) - len(wanted_M)
    padding = jnp.full(spare, capacity.rows_per_server, jnp.int32)
    rows_U = jnp.concatenate([merged.rows_U, padding])
    return owner.Merged(rows_U, merged.place_M, merged.count)
