"""The step where servers and workers are different devices: three programs and two handovers.

    servers: answer the requests          -> vectors and ID rows go to the workers
    workers: loss, gradients, update      -> gradients of what was pulled go to the servers
    servers: take them back, update

Handovers go from each server to its own workers and back, in the format of the wire and within one
process. Programs are dispatched without waiting; the devices wait for each other's arrays.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.feedback import Errors
from dicm_jax.ams.id_table import Table
from dicm_jax.ams.mesh import (
    BATCH_SPEC,
    BOTH,
    REPLICATED_SPEC,
    TABLE_SPEC,
    WORKER,
    Roles,
    replicated,
    table_sharding,
)
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import Request
from dicm_jax.training import servers, workers
from dicm_jax.training.batch import Batch, Samples, ServerBatch
from dicm_jax.training.model import Model, Pulled, Read, click_probability
from dicm_jax.training.servers import Exchanges, Lists, Tables
from dicm_jax.training.state import Params, TrainState
from dicm_jax.training.step import (
    Optimizers,
    PredictStep,
    StepReport,
    TrainStep,
)

ON_WORKERS = TABLE_SPEC
"""One entry for each list on the workers' mesh: for each server's column of workers."""


def hand_over(tree: Any, sharding: NamedSharding) -> Any:
    """Bring arrays, one part a device, to the devices of another mesh that want the same parts.

    Each part is copied from the device that has it to every device that `sharding` wants it on;
    both belong to this process.
    """

    def bring(array: Array) -> Array:
        part_of = {_first(shard.index): shard.data for shard in array.addressable_shards}
        wanted = sharding.addressable_devices_indices_map(array.shape)
        devices = list(wanted)
        sources = [part_of[_first(index)] for index in wanted.values()]
        parts = jax.device_put(sources, devices)
        return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)

    return jax.tree.map(bring, tree)


def _first(index: Any) -> int:
    """Where a part begins in the first dim, the only one that is split."""
    return index[0].start or 0


def dedicated_train_step(
    model: Model, optimizers: Optimizers, exchanges: Exchanges, roles: Roles
) -> TrainStep:
    """The step on two meshes. The state is donated, updated in place."""
    answer = _answer(exchanges, roles)
    work = _work(model, optimizers, exchanges, roles)
    take_back = _take_back(optimizers, exchanges, roles)
    to_workers, to_servers = roles.lists_on_workers, NamedSharding(roles.servers, BATCH_SPEC)
    at_servers = exchanges.strategy.at_servers

    def step(state: TrainState, tables: Tables, batch: Batch) -> tuple[TrainState, StepReport]:
        embedders = state.params.embedders, state.dense_optimizer.embedders
        at_home, at_work = (embedders, ({}, None)) if at_servers else (({}, None), embedders)
        written, kept = answer(state.ids["row"], at_home[0], tables, batch.servers)
        at_work, net, moments, errors, written, report = work(
            at_work,
            (state.params.net, state.dense_optimizer.net),
            state.moments,
            state.errors,
            hand_over(written, to_workers),
            batch.samples,
            batch.lists,
            batch.rows,
        )
        step, at_home, ids, seen = take_back(
            state.step,
            at_home,
            state.ids,
            tables,
            batch.servers,
            hand_over(written, to_servers),
            kept,
        )
        embedders = at_home if at_servers else at_work
        after_step = TrainState(
            step,
            Params(embedders[0], net[0]),
            Params(embedders[1], net[1]),
            ids,
            errors,
            moments,
        )
        return after_step, StepReport(report, *seen)

    return step


def dedicated_predict_step(
    model: Model, exchanges: Exchanges, roles: Roles, read: Read = click_probability
) -> PredictStep:
    """The forward pass on two meshes: what `read` says of each impression of a batch."""
    answer = _answer(exchanges, roles)

    def predict_at_work(
        embedders: dict[str, Any],
        net: dict[str, Any],
        moments: dict[str, Any],
        written: Lists,
        batch: Batch,
    ) -> Any:
        pulled = _read(written, exchanges)
        embedded = workers.embed(exchanges, embedders, pulled.content, batch.lists, batch.rows)
        given = Pulled(net, moments, pulled.ids_KE, embedded.vectors, batch.samples)
        return model.apply(read, given)

    batch_spec: Any = Batch
    predict = _program(
        predict_at_work,
        roles.workers,
        (
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            ON_WORKERS,
            batch_spec(None, BATCH_SPEC, ON_WORKERS, ON_WORKERS),
        ),
        BATCH_SPEC,
    )

    def step(state: TrainState, tables: Tables, batch: Batch) -> Any:
        embedders = state.params.embedders
        at_servers = exchanges.strategy.at_servers
        written, _ = answer(
            state.ids["row"], embedders if at_servers else {}, tables, batch.servers
        )
        for_workers = batch_spec(None, batch.samples, batch.lists, batch.rows)
        return predict(
            {} if at_servers else embedders,
            state.params.net,
            state.moments,
            hand_over(written, roles.lists_on_workers),
            for_workers,
        )

    return step


def _program(function: Any, mesh: Any, in_specs: Any, out_specs: Any, **of_jit: Any) -> Any:
    sharded = jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    return jax.jit(sharded, **of_jit)


def _answer(exchanges: Exchanges, roles: Roles) -> Any:
    def answer(
        row_VE: Array, embedders: dict[str, Any], tables: Tables, batch: ServerBatch
    ) -> tuple[Lists, Any]:
        pulled, kept = servers.pull(exchanges, row_VE, embedders, tables, batch, batch.ids.rounds)
        return _written(pulled, exchanges), kept

    return _program(
        answer,
        roles.servers,
        (TABLE_SPEC, REPLICATED_SPEC, TABLE_SPEC, BATCH_SPEC),
        (BATCH_SPEC, BATCH_SPEC),
    )


def _work(model: Model, optimizers: Optimizers, exchanges: Exchanges, roles: Roles) -> Any:
    def sum_lists(lists: Any) -> Any:
        return lax.psum(lists, WORKER) if roles.workers_per_list > 1 else lists

    def work(
        embedding: tuple[dict[str, Any], Any],
        net: tuple[Any, Any],
        moments: dict[str, Any],
        errors: dict[str, Errors],
        written: Lists,
        samples: Samples,
        lists: dict[str, Request],
        rows: dict[str, FeatureTable],
    ) -> tuple[Any, ...]:
        total = lax.psum(jnp.sum(samples.weight_B), BOTH)
        pulled = _read(written, exchanges)
        embedded = workers.embed(exchanges, embedding[0], pulled.content, lists, rows)
        given = Pulled(net[0], moments, pulled.ids_KE, embedded.vectors, samples)
        found = workers.differentiate(model, given, total)
        sent, errors = workers.to_send(exchanges, found.pulled, lists, errors, sum_lists)
        g_embedders = workers.gradients_of_embedders(
            exchanges, embedding[0], pulled.content, rows, embedded, found.pulled.content
        )
        gradients = workers.sum_over_devices(
            Params(g_embedders, found.net), sent.ids_KE, *jax.tree.leaves(sent.content)
        )
        net = workers.move_dense(optimizers.net, gradients.net, net[1], net[0])
        if g_embedders:
            embedding = workers.move_dense(
                optimizers.embedders, gradients.embedders, embedding[1], embedding[0]
            )
        report = workers.report(
            found,
            pulled.ids_KE,
            embedded.vectors,
            gradients,
            samples,
            total,
            *jax.tree.leaves(gradients),
        )
        written = _written_gradients(sent, exchanges)
        return embedding, net, found.moments, errors, written, report

    everywhere = replicated(roles.workers)
    return _program(
        work,
        roles.workers,
        (
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            ON_WORKERS,
            ON_WORKERS,
            BATCH_SPEC,
            ON_WORKERS,
            ON_WORKERS,
        ),
        (
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            ON_WORKERS,
            ON_WORKERS,
            REPLICATED_SPEC,
        ),
        donate_argnums=(0, 1, 2, 3),
        out_shardings=(
            everywhere,
            everywhere,
            everywhere,
            roles.lists_on_workers,
            roles.lists_on_workers,
            everywhere,
        ),
    )


def _take_back(optimizers: Optimizers, exchanges: Exchanges, roles: Roles) -> Any:
    def take_back(
        step: Array,
        embedding: tuple[dict[str, Any], Any],
        ids: Table,
        tables: Tables,
        batch: ServerBatch,
        written: Lists,
        kept: Any,
    ) -> tuple[Any, ...]:
        sent = _read_gradients(written, exchanges)
        pushed = servers.push_content(exchanges, embedding[0], tables, batch, sent.content, kept)
        gradients = workers.sum_over_devices(pushed, *jax.tree.leaves(pushed))
        if pushed:
            embedding = workers.move_dense(
                optimizers.embedders, gradients, embedding[1], embedding[0]
            )
        ids, updated = servers.push_ids(
            exchanges,
            ids,
            after(batch.ids, sent.ids_KE, *jax.tree.leaves(gradients)),
            sent.ids_KE,
            kept,
            optimizers.rows.at(step, optimizers.row_schedule(step)),
        )
        traffic, rounds = servers.traffic(batch, kept, updated, updated)
        of_embedders: Any = Params(gradients, {})
        return step + 1, embedding, ids, (workers.magnitudes(of_embedders), traffic, rounds)

    everywhere, by_rows = replicated(roles.servers), table_sharding(roles.servers)
    return _program(
        take_back,
        roles.servers,
        (
            REPLICATED_SPEC,
            REPLICATED_SPEC,
            TABLE_SPEC,
            TABLE_SPEC,
            BATCH_SPEC,
            BATCH_SPEC,
            BATCH_SPEC,
        ),
        (REPLICATED_SPEC, REPLICATED_SPEC, TABLE_SPEC, REPLICATED_SPEC),
        donate_argnums=(0, 1, 2),
        out_shardings=(everywhere, everywhere, by_rows, everywhere),
    )


def _written(pulled: Lists, exchanges: Exchanges) -> Lists:
    """What is handed to workers: vectors in the format of their wire, raw rows as they are."""
    content = pulled.content
    if exchanges.strategy.at_servers:
        content = {name: exchanges.content[name].wire.write(x) for name, x in content.items()}
    return Lists(exchanges.id_wire.write(pulled.ids_KE), content)


def _read(written: Lists, exchanges: Exchanges) -> Lists:
    content = written.content
    if exchanges.strategy.at_servers:
        content = {name: exchanges.content[name].wire.read(x) for name, x in content.items()}
    return Lists(exchanges.id_wire.read(written.ids_KE), content)


def _written_gradients(sent: Lists, exchanges: Exchanges) -> Lists:
    content = {name: exchanges.content[name].wire.write(x) for name, x in sent.content.items()}
    return Lists(exchanges.id_wire.write(sent.ids_KE), content)


def _read_gradients(written: Lists, exchanges: Exchanges) -> Lists:
    content = {name: exchanges.content[name].wire.read(x) for name, x in written.content.items()}
    return Lists(exchanges.id_wire.read(written.ids_KE), content)
