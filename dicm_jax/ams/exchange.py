"""How rows are asked for and how vectors travel, inside `jax.shard_map`.

One *pull* is: cut each device's sorted list of unique rows into one run per server (`route`), send
the runs' row numbers to their servers, let the servers turn them into vectors, send the vectors
back and put them at their places in the list. A *push* walks the same road the other way with the
gradients of those vectors. Neither is differentiated through: the caller differentiates its own
network with respect to what it pulled, as in Algorithm 1 of the paper, so activations of the
content's width are never kept.

A round carries at most `C` rows between two devices. Lists that fit need one round; others are
served exactly by more rounds of the same exchange, each serving one window of every server's rows.

Shape legend
    S   servers (length of the server axis)     K   slots of a device's list of unique rows
    C   rows between two devices in a round     E   width of the vectors
    U   unique rows at an owner in a round
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar, no_type_check

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from dicm_jax.ams.mesh import BOTH, SERVER
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.ams.wire import Wire

T = TypeVar("T")

OVERFLOWN = "overflown"
"""Scope, in compiled programs, of what only runs when a batch needs more than one round."""


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Route:
    """One round's road from a worker to the servers.

    Attributes:
      start_S: where each server's run begins in the list of rows.
      count_S: rows in each run, at most `C`.
    """

    start_S: Int[Array, " S"]
    count_S: Int[Array, " S"]


def agreed_rounds(request: Request, capacity: Capacity) -> Int[Array, ""] | int:
    """Rounds that the most demanding device of the mesh needs.

    A plain 1 where one always suffices, so that the loop over rounds disappears from the program.
    """
    if capacity.single_round:
        return 1
    if lax.axis_size(BOTH) == 1:
        return request.rounds[0]
    return lax.pmax(after(request.rounds[0], request.rows_K), BOTH)


def route(
    rows_K: Int[Array, " K"],
    turn: Int[Array, ""] | int,
    rounds: Int[Array, ""] | int,
    capacity: Capacity,
) -> Route:
    """The runs of `rows_K` that round `turn` of `rounds` serves."""
    own_S = jnp.arange(capacity.servers, dtype=jnp.int32) * capacity.rows_per_server
    window = capacity.window(1) // rounds
    low = jnp.minimum(turn * window, capacity.rows_per_server)
    high = jnp.minimum((turn + 1) * window, capacity.rows_per_server)
    start_S = jnp.searchsorted(rows_K, own_S + low).astype(jnp.int32)
    end_S = jnp.searchsorted(rows_K, own_S + high).astype(jnp.int32)
    return Route(start_S, end_S - start_S)


def _whole_list(rows_K: Int[Array, " K"], capacity: Capacity) -> bool:
    """Whether one server answers the whole list at once, so that places need no arithmetic.

    XLA:CPU would do it again for every element that is read through them.
    """
    return capacity.servers == 1 and capacity.per_server == len(rows_K)


def _places(road: Route, capacity: Capacity) -> tuple[Int[Array, "S C"], Array]:
    """Where each of a round's ``S x C`` places lies in the list, and which places are in use."""
    within_C = jnp.arange(capacity.per_server, dtype=jnp.int32)
    place_SC = road.start_S[:, None] + within_C[None, :]
    return place_SC, within_C[None, :] < road.count_S[:, None]


def ask(rows_K: Int[Array, " K"], road: Route, capacity: Capacity) -> Int[Array, "S C"]:
    """Send each server the numbers of the rows wanted from it.

    Returns:
      At each server, the rows that each of its ``S`` workers wants, counted from the server's own
      first row; unused places hold ``rows_per_server``, one past the last.
    """
    if _whole_list(rows_K, capacity):
        return jnp.minimum(rows_K, capacity.rows_per_server)[None]
    place_SC, used_SC = _places(road, capacity)
    own_S1 = jnp.arange(capacity.servers, dtype=jnp.int32)[:, None] * capacity.rows_per_server
    wanted_SC = rows_K.at[place_SC].get(mode="fill", fill_value=0) - own_S1
    wanted_SC = jnp.where(used_SC, wanted_SC, capacity.rows_per_server)
    return send(wanted_SC)


def asked_before(
    wanted_SC: Int[Array, "S C"] | None,
    rows_K: Int[Array, " K"],
    road: Route,
    rounds: Int[Array, ""] | int,
    capacity: Capacity,
) -> Int[Array, "S C"]:
    """`ask` on the way back: what was asked for on the way there, which need not travel again.

    Args:
      wanted_SC: what `ask` returned last on the way there; None if it is not known any more.
      rows_K, road, capacity: as for `ask`.
      rounds: of the exchange; with more than one, rows are asked for again.
    """
    if wanted_SC is None:
        return ask(rows_K, road, capacity)
    if isinstance(rounds, int):
        return wanted_SC

    def again() -> Array:
        with jax.named_scope(OVERFLOWN):
            return ask(rows_K, road, capacity)

    return lax.cond(rounds == 1, lambda: wanted_SC, again)


def give(
    vectors_SCE: Float[Array, "S C E"],
    into_KE: Float[Array, "K E"],
    road: Route,
    rows_K: Int[Array, " K"],
    capacity: Capacity,
    wire: Wire,
) -> Float[Array, "K E"]:
    """Send vectors from servers back to workers and put them at their places in the list."""
    received_SCE = wire.read(send(wire.write(vectors_SCE)))
    return put(received_SCE, into_KE, road, rows_K, capacity)


def put(
    received_SCE: Shaped[Array, "S C *E"],
    into_KE: Shaped[Array, "K *E"],
    road: Route,
    rows_K: Int[Array, " K"],
    capacity: Capacity,
) -> Shaped[Array, "K *E"]:
    """Put what the servers sent in a round at its places in the list."""
    if _whole_list(rows_K, capacity):
        in_use_K1 = (rows_K != UNUSED).reshape(-1, *[1] * (into_KE.ndim - 1))
        return jnp.where(in_use_K1, received_SCE[0], into_KE)
    owner_K = jnp.minimum(rows_K // capacity.rows_per_server, capacity.servers - 1)
    within_K = jnp.arange(len(rows_K), dtype=jnp.int32) - road.start_S[owner_K]
    served_K = (within_K >= 0) & (within_K < road.count_S[owner_K])
    flat_K = jnp.where(served_K, owner_K * capacity.per_server + within_K, 0)
    received_KE = received_SCE.reshape(-1, *received_SCE.shape[2:])[flat_K]
    served_K1 = served_K.reshape(-1, *[1] * (received_KE.ndim - 1))
    return jnp.where(served_K1, received_KE, into_KE)


def give_back(
    gradients_KE: Float[Array, "K E"], road: Route, capacity: Capacity, wire: Wire
) -> Shaped[Array, "S C bytes"]:
    """Send the gradients of pulled vectors to the rows' owners: the transpose of `give`.

    Returns:
      The gradients as they came, for ``wire.read``; those of unused places mean nothing.
    """
    if capacity.servers == 1 and capacity.per_server == len(gradients_KE):
        return send(wire.write(gradients_KE)[None])
    place_SC, used_SC = _places(road, capacity)
    sent_SCE = gradients_KE.at[place_SC].get(mode="fill", fill_value=0)
    return send(wire.write(jnp.where(used_SC[..., None], sent_SCE, 0)))


def over_rounds(
    rounds: Int[Array, ""] | int, one_round: Callable[[Int[Array, ""] | int, T], T], carry: T
) -> T:
    """Apply `one_round` to `carry` once a round; without a loop where the rounds are known."""
    if isinstance(rounds, int):
        for turn in range(rounds):
            carry = one_round(turn, carry)
        return carry
    return lax.fori_loop(0, rounds, one_round, carry)


def send(x_SC: Shaped[Array, "S C *E"]) -> Shaped[Array, "S C *E"]:
    """Send part ``s`` to server ``s`` and get what each of them has for this device."""
    if x_SC.shape[0] == 1:
        return x_SC
    # Narrow minor dims are padded to whole tiles on TPU wires; one flat dim per peer is not.
    flat_SX = x_SC.reshape(x_SC.shape[0], -1)
    sent_SX = lax.all_to_all(flat_SX, SERVER, split_axis=0, concat_axis=0, tiled=True)
    return sent_SX.reshape(x_SC.shape)
