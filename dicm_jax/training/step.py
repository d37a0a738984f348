"""The training step and the prediction step, as they run on a mesh (Algorithm 1 of the paper).

    worker: pull vectors and ID rows; gradients of the network and of what was pulled
    worker -> server: push the gradients of what was pulled
    server: gather the rows again, gradient of the embedding model; row-sparse update of ID rows
    all: sum dense gradients over devices, update dense parameters

Shape legend
    K   slots of a list of unique rows     B   impressions     E   embedding width
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from dicm_jax.ams import content, id_table
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.id_table import Table
from dicm_jax.ams.mesh import (
    BATCH_SPEC,
    BOTH,
    REPLICATED_SPEC,
    TABLE_SPEC,
    replicated,
    table_sharding,
)
from dicm_jax.ams.order import after
from dicm_jax.training.batch import Batch, Capacities
from dicm_jax.training.model import Model, click_loss
from dicm_jax.training.row_adam import RowAdam
from dicm_jax.training.state import Params, StateOf, TrainState

STATE_SPEC = StateOf(
    step=REPLICATED_SPEC,
    params=REPLICATED_SPEC,
    dense_optimizer=REPLICATED_SPEC,
    ids=TABLE_SPEC,
)


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """How parameters move.

    Attributes:
      dense: for the network and the embedding models.
      rows: for ID rows.
      row_schedule: learning rate of ID rows by step.
    """

    dense: optax.GradientTransformation
    rows: RowAdam
    row_schedule: optax.Schedule


@no_type_check  # leaves may also be shapes, specs, shardings
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepReport:
    """What a step tells the host.

    Attributes:
      loss: mean cross-entropy of the batch's impressions, nat.
      magnitudes: sum of squares of each watched tensor, by name in the order in which a step makes
        them; not finite exactly where the tensor is not (or its squares overflow).
      impressions: impressions of the batch, padding left out.
      rounds: most rounds of exchange that any pull needed; above 1, a capacity was overflown.
    """

    loss: Array
    magnitudes: OrderedDict[str, Array]
    impressions: Array
    rounds: Array


TrainStep = Callable[[TrainState, FeatureTable | None, Batch], tuple[TrainState, StepReport]]
PredictStep = Callable[[TrainState, FeatureTable | None, Batch], Float[Array, " B"]]


def make_train_step(
    model: Model, optimizers: Optimizers, capacities: Capacities, mesh: Mesh
) -> TrainStep:
    """The jitted training step. The state is donated: its tables are updated in place."""

    def step(state: TrainState, features: FeatureTable | None, batch: Batch):
        total = lax.psum(jnp.sum(batch.weight_B), BOTH)
        ids_KE, vectors = _pull(model, capacities, state, features, batch, total)
        with jax.named_scope("worker"):

            def loss_of(net_params: Any, ids_KE: Array, vectors: dict[str, Array]) -> Array:
                logits_B2 = model.logits(net_params, ids_KE, vectors, batch)
                return click_loss(logits_B2, batch.label_B, batch.weight_B) / total

            loss, (g_net, g_ids_KE, g_vectors) = jax.value_and_grad(loss_of, argnums=(0, 1, 2))(
                state.params.net, ids_KE, vectors
            )
        g_embedders = _push_vectors(model, capacities, state, features, batch, g_vectors)
        with jax.named_scope("update_dense"):
            gradients = _sum_over_devices(Params(g_embedders, g_net))
            params, dense_optimizer = _move_dense(
                optimizers.dense, gradients, state.dense_optimizer, state.params
            )
        with jax.named_scope("push_ids"):
            update_rows = optimizers.rows.at(state.step, optimizers.row_schedule(state.step))
            request = after(batch.ids, g_ids_KE, *jax.tree.leaves(gradients))
            ids = id_table.push(state.ids, g_ids_KE, request, capacities.ids, update_rows)
        report = _report(loss, total, ids_KE, vectors, gradients, g_ids_KE, batch, ids)
        return TrainState(state.step + 1, params, dense_optimizer, ids), report

    sharded = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(STATE_SPEC, TABLE_SPEC, BATCH_SPEC),
        out_specs=(STATE_SPEC, REPLICATED_SPEC),
        check_vma=False,  # gradients are taken of local sums and added up by hand, once
    )
    # Said once more for jit, which else spells the same sharding differently from the state that
    # came in and traces the second step anew.
    everywhere, by_rows = replicated(mesh), table_sharding(mesh)
    state_out = StateOf(everywhere, everywhere, everywhere, by_rows)
    return jax.jit(sharded, donate_argnums=0, out_shardings=(state_out, everywhere))


def make_predict_step(model: Model, capacities: Capacities, mesh: Mesh) -> PredictStep:
    """The jitted forward pass: click probability of each impression of a batch."""

    def predict(state: TrainState, features: FeatureTable | None, batch: Batch):
        ids_KE, vectors = _pull(model, capacities, state, features, batch, state.step)
        with jax.named_scope("worker"):
            logits_B2 = model.logits(state.params.net, ids_KE, vectors, batch)
            return jax.nn.softmax(logits_B2)[:, 1]

    return jax.jit(
        jax.shard_map(
            predict,
            mesh=mesh,
            in_specs=(STATE_SPEC, TABLE_SPEC, BATCH_SPEC),
            out_specs=BATCH_SPEC,
            check_vma=False,
        )
    )


def _pull(
    model: Model,
    capacities: Capacities,
    state: TrainState,
    features: FeatureTable | None,
    batch: Batch,
    done: Array,
) -> tuple[Float[Array, "K E"], dict[str, Array]]:
    """ID rows and compressed vectors, one exchange after another, the first after `done`."""
    with jax.named_scope("pull_ids"):
        ids_KE = id_table.pull(state.ids["row"], after(batch.ids, done), capacities.ids)
    vectors, done = {}, ids_KE
    for name, request in batch.content.items():
        assert features is not None  # images are asked for only where there is a table of them
        with jax.named_scope(f"pull_vectors_{name}"):
            done = vectors[name] = content.pull(
                model.embed[name],
                state.params.embedders[name],
                features,
                after(request, done),
                capacities.content[name],
            )
    return ids_KE, vectors


def _push_vectors(
    model: Model,
    capacities: Capacities,
    state: TrainState,
    features: FeatureTable | None,
    batch: Batch,
    gradients: dict[str, Array],
) -> dict[str, Any]:
    """This device's share of the gradients of the embedding models."""
    pushed = {}
    for name, gradients_KE in gradients.items():
        assert features is not None
        done = [gradients_KE, *jax.tree.leaves(pushed)]
        with jax.named_scope(f"push_vectors_{name}"):
            pushed[name] = content.push(
                model.embed[name],
                state.params.embedders[name],
                features,
                gradients_KE,
                after(batch.content[name], *done),
                capacities.content[name],
            )
    return pushed


def _sum_over_devices(gradients: Params) -> Params:
    if not gradients.embedders:
        return lax.psum(gradients, BOTH)
    net = after(gradients.net, *jax.tree.leaves(gradients.embedders))
    return lax.psum(Params(gradients.embedders, net), BOTH)


def _move_dense(
    optimizer: optax.GradientTransformation, gradients: Any, kept: Any, params: Any
) -> tuple[Any, Any]:
    """New parameters, and what the optimizer keeps for the next step."""
    # Optax counts steps in integers and multiplies them with floats, which the strict promotion
    # that everything else is tested under forbids.
    with jax.numpy_dtype_promotion("standard"):
        updates, kept = optimizer.update(gradients, kept, params)
        return optax.apply_updates(params, updates), kept


def _report(
    loss: Array,
    total: Array,
    ids_KE: Array,
    vectors: dict[str, Array],
    gradients: Params,
    g_ids_KE: Array,
    batch: Batch,
    ids: Table,
) -> StepReport:
    """Sums over devices of what each of them saw, taken after the last exchange."""
    local = OrderedDict({"ID rows": _squares(ids_KE)})  # jax sorts the keys of a plain dict
    local |= {f"vectors of compressor {name!r}": _squares(x) for name, x in vectors.items()}
    local |= {"loss": loss}
    local |= {"gradient of ID rows": _squares(g_ids_KE)}
    summed = lax.psum(after(local, *ids.values()), BOTH)
    dense = {f"gradient of {name}": _squares(x) for name, x in named_leaves(gradients)}
    requests = [batch.ids, *batch.content.values()]
    rounds = jnp.max(jnp.stack([request.rounds[0] for request in requests]))
    rounds = lax.pmax(after(rounds, summed["loss"]), BOTH)
    return StepReport(summed["loss"], summed | dense, total, rounds)


def named_leaves(params: Any) -> list[tuple[str, Array]]:
    """Every array of a tree with its path, e.g. ``net.head.output.kernel``."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]


def _squares(x: Array) -> Array:
    return jnp.sum(jnp.square(x))
