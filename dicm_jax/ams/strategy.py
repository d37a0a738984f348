"""Where the embedding model runs, and what travels for it: one interface for the paper's three.

    ams         at the owner of the rows; narrow vectors travel (`dicm_jax.ams.content`)
    ps_server   at the worker; servers send it raw rows (`dicm_jax.ams.parameter_server`)
    ps_worker   at the worker; raw rows come inside the batch (`dicm_jax.ams.parameter_server`)

All three give the same vectors and the same gradients. The last two are there to be compared: they
are what one does without a model server.

A step has four phases, each a method. What the servers do and what the workers do is kept apart, so
that a step can run as one program on devices that have both roles or as three on devices that have
one each.

Shape legend
    K   slots of a requester's list of rows     E   embedding width     H   hidden width
"""

import dataclasses
from typing import Any, Protocol, no_type_check, runtime_checkable

import jax
from jaxtyping import Array, Float

from dicm_jax.ams.embedding import Chunks, Embedder, Params
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.plan import Capacity, Leaf, Request
from dicm_jax.ams.wire import Wire

Given = Any
"""What servers hand to workers for one embedding model: vectors, raw rows or nothing."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """How the rows and vectors of one embedding model are asked for, made and sent.

    Attributes:
      embedder: the embedding model.
      capacity: what the exchange is compiled for.
      wire: format of vectors and gradients on their way.
      chunks: rows embedded at a time.
      merge: whether an owner embeds a row once that several requesters want.
    """

    embedder: Embedder
    capacity: Capacity
    wire: Wire
    chunks: Chunks
    merge: bool = True


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """What the forward pass leaves for the backward pass where the embedding model runs.

    Attributes:
      hidden: results of the wide product, by slot.
      embedded: int32 ``[1]``, rows that were embedded.
      wanted: int32, rows that a server was asked for in the last round; None on workers.
    """

    hidden: Leaf
    embedded: Leaf
    wanted: Leaf = None


@runtime_checkable
class Strategy(Protocol):
    """What the four phases do for one embedding model, per device, inside `jax.shard_map`."""

    @property
    def at_servers(self) -> bool:
        """Whether embedding models, and their parameters, live at the servers."""
        ...

    @property
    def rows_in_batch(self) -> bool:
        """Whether the raw rows of a worker's list come with its samples."""
        ...

    def serve(
        self, channel: Channel, params: Params | None, table: FeatureTable | None, request: Request
    ) -> tuple[Given, Kept | None]:
        """Servers: answer a request."""
        ...

    def embed(
        self, channel: Channel, params: Params | None, given: Given, request: Request
    ) -> tuple[Float[Array, "K E"], Kept | None]:
        """Workers: the vectors of the list, from what was given."""
        ...

    def gradient_at_worker(
        self,
        channel: Channel,
        params: Params | None,
        given: Given,
        kept: Kept | None,
        gradients_KE: Float[Array, "K E"],
    ) -> Params | None:
        """Workers: their share of the embedding model's gradient; None where it runs elsewhere."""
        ...

    def push(
        self,
        channel: Channel,
        params: Params | None,
        table: FeatureTable | None,
        request: Request,
        gradients_KE: Float[Array, "K E"],
        kept: Kept | None,
    ) -> Params | None:
        """Servers: their share of the embedding model's gradient; None where it runs elsewhere."""
        ...
