"""The training step and the prediction step (Algorithm 1 of the paper), on either placement.

    servers: answer the requests for ID rows and vectors
    workers: gradients of the network and of what was pulled
    servers: take those back; gather rows again, gradient of the embedding models; row-sparse update
    all:     sum dense gradients over devices, update dense parameters

`colocated` makes one program of it, for devices that have both roles; `dicm_jax.training.dedicated`
makes three, for devices that have one each.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from dicm_jax.ams.mesh import BATCH_SPEC, BOTH, REPLICATED_SPEC, TABLE_SPEC, Roles
from dicm_jax.ams.order import after
from dicm_jax.training import servers, workers
from dicm_jax.training.batch import Batch
from dicm_jax.training.model import Model, Pulled, Read, click_probability
from dicm_jax.training.row_adam import RowOptimizer
from dicm_jax.training.servers import Exchanges, Tables, Traffic
from dicm_jax.training.state import Params, ParamsOf, StateOf, TrainState, state_shardings
from dicm_jax.training.workers import WorkerReport


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """How parameters move.

    Attributes:
      embedders: for the embedding models.
      net: for the workers' network.
      rows: for ID rows.
      row_schedule: learning rate of ID rows by step.
    """

    embedders: optax.GradientTransformation
    net: optax.GradientTransformation
    rows: RowOptimizer
    row_schedule: optax.Schedule

    def init(self, params: Params) -> Params:
        """What the two dense optimisers keep at the start."""
        return ParamsOf(self.embedders.init(params.embedders), self.net.init(params.net))

    def after(self, steps: int) -> "Optimizers":
        """The same for a state that has taken `steps` in an earlier run: rates begin anew."""
        rate = self.row_schedule
        return dataclasses.replace(self, row_schedule=lambda step: rate(step - steps))


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepReport:
    """What a step tells the host.

    Attributes:
      workers: loss and magnitudes.
      embedders: magnitudes of the gradients of embedding models that live at the servers.
      traffic: rows asked for and handled.
      rounds: most rounds of exchange that any pull needed; above 1, a capacity was overflown.
    """

    workers: WorkerReport
    embedders: dict[str, Array]
    traffic: Traffic
    rounds: Array


TrainStep = Callable[[TrainState, Tables, Batch], tuple[TrainState, StepReport]]
PredictStep = Callable[[TrainState, Tables, Batch], Any]
"""Arrays ``[B, ...]``: click probabilities, or whatever else is read off the network."""

STATE_SPEC = StateOf(
    step=REPLICATED_SPEC,
    params=REPLICATED_SPEC,
    dense_optimizer=REPLICATED_SPEC,
    ids=TABLE_SPEC,
    errors=BATCH_SPEC,
    moments=REPLICATED_SPEC,
)


def colocated_train_step(
    model: Model, optimizers: Optimizers, exchanges: Exchanges, roles: Roles
) -> TrainStep:
    """The jitted step for devices that serve and work. The state is donated, updated in place."""

    def step(state: TrainState, tables: Tables, batch: Batch) -> tuple[TrainState, StepReport]:
        samples, params = batch.samples, state.params
        total = lax.psum(jnp.sum(samples.weight_B), BOTH)
        # ---- Servers: what was asked for
        pulled, kept = servers.pull(
            exchanges, state.ids["row"], params.embedders, tables, batch.servers, total
        )
        # ---- Workers: loss and gradients
        embedded = workers.embed(
            exchanges, params.embedders, pulled.content, batch.lists, batch.rows
        )
        given = Pulled(params.net, state.moments, pulled.ids_KE, embedded.vectors, samples)
        found = workers.differentiate(model, given, total)
        sent, errors = workers.to_send(
            exchanges, found.pulled, batch.lists, state.errors, sum_lists=lambda lists: lists
        )
        # ---- Gradients of embedding models, where they live
        g_embedders = workers.gradients_of_embedders(
            exchanges,
            params.embedders,
            pulled.content,
            batch.rows,
            embedded,
            found.pulled.content,
        ) or servers.push_content(
            exchanges, params.embedders, tables, batch.servers, sent.content, kept
        )
        # ---- Updates
        gradients = workers.sum_over_devices(
            Params(g_embedders, found.net), *jax.tree.leaves(g_embedders)
        )
        net, net_kept = workers.move_dense(
            optimizers.net, gradients.net, state.dense_optimizer.net, params.net
        )
        embedders, embedders_kept = workers.move_dense(
            optimizers.embedders,
            gradients.embedders,
            state.dense_optimizer.embedders,
            params.embedders,
        )
        ids, updated = servers.push_ids(
            exchanges,
            state.ids,
            after(batch.servers.ids, sent.ids_KE, *jax.tree.leaves(gradients)),
            sent.ids_KE,
            kept,
            optimizers.rows.at(state.step, optimizers.row_schedule(state.step)),
        )
        # ---- Report
        seen = workers.report(
            found, pulled.ids_KE, embedded.vectors, gradients, samples, total, updated
        )
        traffic, rounds = servers.traffic(batch.servers, kept, updated, seen.loss)
        after_step = TrainState(
            state.step + 1,
            Params(embedders, net),
            Params(embedders_kept, net_kept),
            ids,
            errors,
            found.moments,
        )
        return after_step, StepReport(seen, {}, traffic, rounds)

    sharded = jax.shard_map(
        step,
        mesh=roles.servers,
        in_specs=(STATE_SPEC, TABLE_SPEC, BATCH_SPEC),
        out_specs=(STATE_SPEC, REPLICATED_SPEC),
        check_vma=False,  # gradients are taken of local sums and added up by hand, once
    )
    return jax.jit(sharded, donate_argnums=0, out_shardings=_as_they_come(roles, exchanges))


def _as_they_come(roles: Roles, exchanges: Exchanges) -> Any:
    """Shardings of a step's results.

    Said to jit once more, which else spells the same sharding differently from the state that came
    in, and traces the second step anew.
    """
    marker = StateOf(
        0, ParamsOf(0, 0), ParamsOf(0, 0), 0, 0, 0
    )  # one leaf for each part of a state
    everywhere = jax.NamedSharding(roles.servers, REPLICATED_SPEC)
    at_servers = exchanges.strategy.at_servers
    return state_shardings(marker, roles, embed_at_servers=at_servers), everywhere


def colocated_predict_step(
    model: Model, exchanges: Exchanges, roles: Roles, read: Read = click_probability
) -> PredictStep:
    """The jitted forward pass: what `read` says of each impression of a batch."""

    def predict(state: TrainState, tables: Tables, batch: Batch) -> Any:
        params = state.params
        pulled, _ = servers.pull(
            exchanges, state.ids["row"], params.embedders, tables, batch.servers, state.step
        )
        embedded = workers.embed(
            exchanges, params.embedders, pulled.content, batch.lists, batch.rows
        )
        given = Pulled(params.net, state.moments, pulled.ids_KE, embedded.vectors, batch.samples)
        with jax.named_scope("worker"):
            return model.apply(read, given)

    return jax.jit(
        jax.shard_map(
            predict,
            mesh=roles.servers,
            in_specs=(STATE_SPEC, TABLE_SPEC, BATCH_SPEC),
            out_specs=BATCH_SPEC,
            check_vma=False,
        )
    )
