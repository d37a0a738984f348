"""The operator of the Advanced Model Server: frozen rows in, compressed vectors out, at the owner.

`pull` gathers the wanted rows where they lie, runs the embedding model there and sends back only
its narrow vectors. `push` takes the vectors' gradients the same way back, gathers the rows *again*
and returns the gradient of the embedding model's parameters (paper section 4.2, SERVER_EMBED and
SERVER_UPDATE of Algorithm 1). Nothing of the content's width is kept between the two, and nothing
of that width leaves its owner.

Rows are handled a chunk at a time, and only as many chunks as there are distinct rows: room for a
batch's worst case costs no arithmetic.

Shape legend
    K   slots of a device's list of unique rows     S   servers
    C   rows between two devices in a round         U   unique rows at an owner (slots)
    E   width of the vectors
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dicm_jax.ams import exchange, owner
from dicm_jax.ams.feature_table import ContentRows, FeatureTable, gather
from dicm_jax.ams.mesh import SERVER
from dicm_jax.ams.plan import Capacity, Request

Params = TypeVar("Params")
Embed = Callable[[Params, ContentRows], Float[Array, "U E"]]
"""An embedding model as a pure function of its parameters and frozen rows."""

CHUNK = 512
"""Rows embedded at a time: 8 MiB of float32 at width 4096. XLA:CPU reuses buffers of that size and
page-faults on larger ones; a last chunk that is nearly empty costs little."""


def pull(
    embed: Embed[Params],
    params: Params,
    table: FeatureTable,
    request: Request,
    capacity: Capacity,
) -> Float[Array, "K E"]:
    """Vectors of the rows of `request`, at the places of its list; unused places are zero.

    Runs per device inside `jax.shard_map`; `table` holds this server's rows.
    """
    rounds = exchange.agreed_rounds(request, capacity)

    def one_round(turn: Int[Array, ""] | int, into_KE: Array) -> Array:
        road = exchange.route(request.rows_K, turn, rounds, capacity)
        merged = _merge(exchange.ask(request.rows_K, road, capacity), capacity)
        vectors_UE = _embed_chunks(embed, params, table, merged)
        vectors_SCE = vectors_UE[merged.place_M].reshape(capacity.servers, capacity.per_server, -1)
        return exchange.give(vectors_SCE, into_KE, road, request.rows_K, capacity)

    width = jax.eval_shape(embed, params, gather(table, jnp.zeros(1, jnp.int32))).shape[-1]
    return exchange.over_rounds(rounds, one_round, jnp.zeros((len(request.rows_K), width)))


def push(
    embed: Embed[Params],
    params: Params,
    table: FeatureTable,
    gradients_KE: Float[Array, "K E"],
    request: Request,
    capacity: Capacity,
) -> Params:
    """Gradient of the embedding model's parameters from the gradients of pulled vectors.

    The sum over this server's rows; the caller sums it over devices.
    """
    rounds = exchange.agreed_rounds(request, capacity)

    def one_round(turn: Int[Array, ""] | int, total: Params) -> Params:
        road = exchange.route(request.rows_K, turn, rounds, capacity)
        merged = _merge(exchange.ask(request.rows_K, road, capacity), capacity)
        gradients_SCE = exchange.give_back(gradients_KE, road, capacity)
        gradients_UE = owner.sum_gradients(
            gradients_SCE.reshape(-1, gradients_KE.shape[-1]), merged
        )
        return _push_chunks(embed, params, table, merged, gradients_UE, total)

    return exchange.over_rounds(rounds, one_round, jax.tree.map(jnp.zeros_like, params))


def _merge(wanted_SC: Int[Array, "S C"], capacity: Capacity) -> owner.Merged:
    """The distinct rows wanted, their slots padded to whole chunks."""
    wanted_M = wanted_SC.reshape(-1)
    if lax.axis_size(SERVER) == 1:
        merged = owner.already_distinct(wanted_M, capacity.rows_per_server)
    else:
        merged = owner.merge(wanted_M, capacity.rows_per_server)
    spare = -len(wanted_M) % _chunk(len(wanted_M))
    padding = jnp.full(spare, capacity.rows_per_server, jnp.int32)
    rows_U = jnp.concatenate([merged.rows_U, padding])
    return owner.Merged(rows_U, merged.place_M, merged.count)


def _chunk(slots: int) -> int:
    return min(CHUNK, slots)


def _embed_chunks(
    embed: Embed[Params], params: Params, table: FeatureTable, merged: owner.Merged
) -> Float[Array, "U E"]:
    chunk = _chunk(len(merged.rows_U))

    def one_chunk(i: Int[Array, ""], into_UE: Array) -> Array:
        rows = gather(table, lax.dynamic_slice_in_dim(merged.rows_U, i * chunk, chunk))
        return lax.dynamic_update_slice_in_dim(into_UE, embed(params, rows), i * chunk, axis=0)

    width = jax.eval_shape(embed, params, gather(table, merged.rows_U[:1])).shape[-1]
    empty_UE = jnp.zeros((len(merged.rows_U), width))
    return lax.fori_loop(0, _n_chunks(merged.count, chunk), one_chunk, empty_UE)


def _push_chunks(
    embed: Embed[Params],
    params: Params,
    table: FeatureTable,
    merged: owner.Merged,
    gradients_UE: Float[Array, "U E"],
    total: Params,
) -> Params:
    chunk = _chunk(len(merged.rows_U))

    def one_chunk(i: Int[Array, ""], total: Params) -> Params:
        rows = gather(table, lax.dynamic_slice_in_dim(merged.rows_U, i * chunk, chunk))
        gradients = lax.dynamic_slice_in_dim(gradients_UE, i * chunk, chunk)
        _, pull_back = jax.vjp(lambda p: embed(p, rows), params)
        return jax.tree.map(jnp.add, total, pull_back(gradients)[0])

    return lax.fori_loop(0, _n_chunks(merged.count, chunk), one_chunk, total)


def _n_chunks(count: Int[Array, ""], chunk: int) -> Int[Array, ""]:
    return (count + chunk - 1) // chunk
