"""A small log, a small model and all that a step on any mesh needs, for the tests of the step.

The log is drawn by NumPy alone. It has more images than a table has virtual shards, so that rows
lie on every server; items without an image; users without behaviors; and popular items.

Shape legend
    N   items    G   groups    B   impressions    H   behaviors over all groups    D   content width
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dicm_jax.ams import feature_table, id_table
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, batch_sharding, make_mesh
from dicm_jax.data.batches import BatchShape, BatchSource, KeyBatch
from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    Features,
    GroupedImpressions,
    IdField,
    Items,
)
from dicm_jax.nn.dicm import NetSpec
from dicm_jax.training.batch import Batch, Capacities, plan_batch
from dicm_jax.training.capacity import measured_capacities
from dicm_jax.training.model import CompressorSpec, Model, ModelSpec, build_model
from dicm_jax.training.row_adam import RowAdam
from dicm_jax.training.state import TrainState, state_shardings
from dicm_jax.training.step import Optimizers, StepReport, make_train_step
from tests import numpy_model

ITEMS = 2500
IMAGES = 2300
CONTENT_WIDTH = 37
"""A prime, so that the width shows wherever it is hidden in a flattened dim."""
EMBEDDING_WIDTH = 5
SHAPE = BatchShape(lanes=8, impressions=6, groups=3, behaviors=4)


@functools.cache
def log(groups: int = 137, seed: int = 0) -> ClickLog:
    """A log whose train split has `groups` groups of 0 to 6 behaviors and 1 to 9 impressions."""
    rng = np.random.default_rng(seed)
    image_N = rng.permutation(ITEMS).astype(np.int32)
    image_N[image_N >= IMAGES] = NO_IMAGE
    ids_NF = np.stack([np.arange(ITEMS), rng.integers(0, 7, ITEMS)], axis=1).astype(np.int32)
    return ClickLog(
        name="small",
        fields=(
            IdField("age", "age", "user"),
            IdField("likes", "category", "user"),
            IdField("image", "image", "item"),
            IdField("category", "category", "item"),
            IdField("position", "position", "context"),
            IdField("behavior_image", "image", "behavior"),
        ),
        vocabulary_sizes={"age": 5, "category": 7, "image": ITEMS, "position": 10},
        items=Items(ids_NF, image_N),
        features=Features(rng.gamma(0.5, 2.0, (IMAGES, CONTENT_WIDTH)).astype(np.float32)),
        train=split(rng, groups),
        test=split(rng, groups // 3),
    )


def split(rng: np.random.Generator, groups: int) -> GroupedImpressions:
    """Groups with items drawn so that few are popular; the first group has no behaviors."""
    behaviors_G = rng.integers(0, 7, groups)
    behaviors_G[0] = 0
    impressions_G = rng.integers(1, 10, groups)
    n_behaviors, n_impressions = behaviors_G.sum(), impressions_G.sum()
    return GroupedImpressions(
        user_G=np.arange(groups, dtype=np.int32) // 2,
        user_ids_GF=_columns(rng, groups, 5, 7),
        behavior_offsets=np.concatenate([[0], np.cumsum(behaviors_G)]),
        behavior_item_H=_popular(rng, int(n_behaviors)),
        impression_offsets=np.concatenate([[0], np.cumsum(impressions_G)]),
        item_B=_popular(rng, int(n_impressions)),
        context_ids_BF=_columns(rng, int(n_impressions), 10),
        click_B=rng.integers(0, 2, n_impressions).astype(np.uint8),
        cold_B=np.zeros(n_impressions, bool),
    )


def _columns(rng: np.random.Generator, length: int, *sizes: int) -> np.ndarray:
    return np.stack([rng.integers(0, size, length) for size in sizes], axis=1).astype(np.int32)


def _popular(rng: np.random.Generator, length: int) -> np.ndarray:
    return np.floor(ITEMS * rng.random(length) ** 3).astype(np.int32)


def model_spec(**changes: Any) -> ModelSpec:
    """The paper's model at small widths; `changes` are fields of `NetSpec`."""
    net = NetSpec(
        user_fields=2,
        impression_fields=3,
        behavior_ids=True,
        query_fields=(1,),
        embedding_width=EMBEDDING_WIDTH,
        attention_widths=(6, 4),
        head_widths=(9, 7),
    )
    return ModelSpec(
        dataclasses.replace(net, **changes),
        CompressorSpec(CONTENT_WIDTH, widths=(11, 6, EMBEDDING_WIDTH)),
    )


class KeepGradient(RowAdam):
    """Moves no row and keeps the summed gradient of touched rows in the place of ``mu``."""

    def at(self, step: Any, learning_rate: Any) -> id_table.UpdateRows:
        return lambda touched, gradient_UE: touched | {"mu": gradient_UE}


def keep_gradients() -> Optimizers:
    """Optimizers that move nothing and keep gradients as their state, to be looked at."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.zeros_like, params), updates

    dense = optax.GradientTransformation(
        init=lambda params: jax.tree.map(jnp.zeros_like, params), update=update
    )
    return Optimizers(dense, KeepGradient(), optax.constant_schedule(0.0))


def adam(eps: float = 1e-8, learning_rate: float = 1e-3) -> Optimizers:
    """Adam for dense parameters and rows."""
    schedule = optax.constant_schedule(learning_rate)
    return Optimizers(optax.adam(schedule, eps=eps), RowAdam(eps=eps), schedule)


@dataclasses.dataclass
class Run:
    """A train step on a mesh with what it takes; `go` moves it on.

    Attributes:
      source: where batches come from.
      fresh: makes a state to start from, the same one each time and on any mesh.
      state: where the run stands; given away at each step.
    """

    source: BatchSource
    mesh: Mesh
    model: Model
    capacities: Capacities
    features: FeatureTable
    step: Any
    fresh: Callable[[], TrainState]
    state: TrainState

    def batch(self, keys: KeyBatch) -> Batch:
        """A batch, planned and laid on the mesh."""
        images = self.model.spec.image_models
        planned = plan_batch(keys, self.mesh.devices.size, self.capacities, images)
        return jax.device_put(planned, batch_sharding(self.mesh))

    def take(self, keys: KeyBatch) -> StepReport:
        """Take a step."""
        self.state, report = self.step(self.state, self.features, self.batch(keys))
        return jax.device_get(report)

    def go(self, steps: int) -> list[StepReport]:
        """Take `steps` steps from the first batch on."""
        return [self.take(self.source[n]) for n in range(steps)]


def run(
    worker: int,
    server: int,
    *,
    optimizers: Optimizers | None = None,
    spec: ModelSpec | None = None,
    per_server: int | None = None,
    moved_by: float = 0.0,
) -> Run:
    """A run of the small model on a ``(worker, server)`` mesh.

    Args:
      worker, server: shape of the mesh.
      optimizers: `adam` if None.
      spec: `model_spec` if None.
      per_server: rows between two devices in a round; None for twice the most that is met.
      moved_by: how far parameters are from where they usually start.
    """
    spec = model_spec() if spec is None else spec
    optimizers = adam() if optimizers is None else optimizers
    mesh = make_mesh(MeshShape(worker, server))
    source = BatchSource(log(), log().train, SHAPE, epochs=2, seed=0)
    capacities = measured_capacities(source, MeshShape(worker, server), spec.image_models, 2.0)
    if per_server is not None:
        capacities = _narrowed(capacities, per_server)
    model, params = build_model(spec, 0)

    def fresh() -> TrainState:
        dense = numpy_model.moved(params, moved_by)
        key, n_rows = jax.random.key(7), RowLayout(source.stack.n_keys).n_rows
        ids = optimizers.rows.init(id_table.init_rows(key, mesh, n_rows, EMBEDDING_WIDTH, 0.1))
        step = jnp.zeros((), jnp.int32)
        state = TrainState(step, dense, optimizers.dense.init(dense), ids)
        return jax.device_put(state, state_shardings(state, mesh))

    step = make_train_step(model, optimizers, capacities, mesh)
    features = feature_rows(log().features.rows_VD, mesh)
    return Run(source, mesh, model, capacities, features, step, fresh, fresh())


def feature_rows(rows_VD: np.ndarray, mesh: Mesh) -> FeatureTable:
    """Content rows, standardised by their own statistics, in float32."""
    return feature_table.build(
        rows_VD, None, feature_table.statistics(rows_VD, None), "float32", mesh
    )


def _narrowed(capacities: Capacities, per_server: int) -> Capacities:
    return Capacities(
        dataclasses.replace(capacities.ids, per_server=per_server),
        {
            name: dataclasses.replace(capacity, per_server=per_server)
            for name, capacity in capacities.content.items()
        },
    )
