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

from dicm_jax.ams import feature_table, id_table, mesh
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.keys import IMAGE
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, Roles
from dicm_jax.config import ExchangeConfig
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.data.lanes import BatchShape
from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    Content,
    Features,
    GroupedImpressions,
    IdField,
    Items,
    in_memory,
)
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training.assemble import first_errors, lay_out_state
from dicm_jax.training.batch import Batch, Capacities
from dicm_jax.training.capacity import Room, measured_room
from dicm_jax.training.connection import exchanges_for
from dicm_jax.training.dedicated import dedicated_predict_step, dedicated_train_step
from dicm_jax.training.devices import first_of_each
from dicm_jax.training.feed import lay_out, own_requesters
from dicm_jax.training.model import CompressorSpec, Model, ModelSpec, build_model
from dicm_jax.training.planning import HostRows, Layouts, Planner
from dicm_jax.training.row_adam import RowAdam
from dicm_jax.training.servers import Exchanges
from dicm_jax.training.state import TrainState
from dicm_jax.training.step import (
    Optimizers,
    StepReport,
    colocated_predict_step,
    colocated_train_step,
)
from tests import numpy_model

ITEMS = 2500
IMAGES = 2300
CONTENT_WIDTH = 37
"""A prime, so that the width shows wherever it is hidden in a flattened dim."""
TEXT_WIDTH = 23
"""Of the second content of `log_with_texts`."""
TEXT = "text"
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
            IdField("behavior_category", "category", "behavior"),
        ),
        vocabulary_sizes={"age": 5, "category": 7, "image": ITEMS, "position": 10},
        items=Items(ids_NF, image_N),
        features=Features(rng.gamma(0.5, 2.0, (IMAGES, CONTENT_WIDTH)).astype(np.float32)),
        train=split(rng, groups),
        test=split(rng, groups // 3),
    )


@functools.cache
def log_with_texts() -> ClickLog:
    """`log`, where most items have a text as well, with rows of another width and count."""
    rng = np.random.default_rng(5)
    key_N = rng.integers(0, 1500, ITEMS).astype(np.int32)
    key_N[rng.random(ITEMS) < 0.2] = NO_IMAGE
    rows_VD = rng.normal(size=(1500, TEXT_WIDTH)).astype(np.float32)
    return dataclasses.replace(log(), more_content={TEXT: Content(Features(rows_VD), key_N)})


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
        behavior_targets=(0, 1),
        query_fields=(1,),
        embedding_width=EMBEDDING_WIDTH,
        vector_width=EMBEDDING_WIDTH,
        attention_widths=(6, 4),
        head_widths=(9, 7),
    )
    return ModelSpec(
        dataclasses.replace(net, **changes),
        CompressorSpec(widths=(11, 6, EMBEDDING_WIDTH)),
        {IMAGE: CONTENT_WIDTH, TEXT: TEXT_WIDTH},
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
    return Optimizers(dense, dense, KeepGradient(), optax.constant_schedule(0.0))


def adam(eps: float = 1e-8, learning_rate: float = 1e-3) -> Optimizers:
    """Adam for dense parameters and rows."""
    schedule = optax.constant_schedule(learning_rate)
    dense = optax.adam(schedule, eps=eps)
    return Optimizers(dense, dense, RowAdam(eps=eps), schedule)


class ArrayTable:
    """A feature table on the host, in arrays."""

    def __init__(self, rows_VD: np.ndarray, storage: feature_table.Storage):
        stats = feature_table.statistics(rows_VD, None)
        (standard_VD,) = feature_table.standardized_chunks(rows_VD, None, stats)
        self.stored_VD, self.scale_V = feature_table.to_rest(standard_VD, storage)
        self.layout = RowLayout(len(rows_VD))

    def gather(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.stored_VD[keys], None if self.scale_V is None else self.scale_V[keys]


@dataclasses.dataclass
class Run:
    """A train step on a mesh with what it takes; `go` moves it on.

    Attributes:
      source: where batches come from.
      fresh: makes a state to start from, the same one each time and on any mesh.
      state: where the run stands; given away at each step.
    """

    source: BatchSource
    roles: Roles
    model: Model
    exchanges: Exchanges
    planner: Planner
    tables: dict[str, FeatureTable]
    step: Any
    fresh: Callable[[], TrainState]
    state: TrainState

    @property
    def mesh(self) -> Mesh:
        return self.roles.workers

    @property
    def capacities(self) -> Capacities:
        return self.planner.capacities

    @property
    def predict(self) -> Any:
        colocated = self.roles.colocated
        make = colocated_predict_step if colocated else dedicated_predict_step
        return make(self.model, self.exchanges, self.roles)

    def batch(self, keys: KeyBatch) -> Batch:
        """A batch, planned and laid on the devices."""
        return lay_out(self.planner.plan(keys, own_requesters(self.roles)), self.roles)

    def take(self, keys: KeyBatch) -> StepReport:
        """Take a step."""
        self.state, report = self.step(self.state, self.tables, self.batch(keys))
        return jax.device_get(report)

    def go(self, steps: int) -> list[StepReport]:
        """Take `steps` steps from the first batch on."""
        return [self.take(self.source[n]) for n in range(steps)]


def roles_of(worker: int, server: int, placement: str) -> Roles:
    """Co-located on ``worker x server`` devices, or servers with `worker` workers for each."""
    if placement == "colocated":
        return mesh.colocated(MeshShape(worker, server))
    servers = first_of_each(jax.devices(), server)
    others = [device for device in jax.devices() if device not in servers]
    return mesh.dedicated(servers, others[: server * worker])


def run(
    worker: int,
    server: int,
    *,
    placement: str = "colocated",
    settings: ExchangeConfig | None = None,
    storage: feature_table.Storage = "float32",
    on_host: bool = False,
    optimizers: Optimizers | None = None,
    spec: ModelSpec | None = None,
    click_log: ClickLog | None = None,
    per_server: int | None = None,
    factor: float = 2.0,
    measured_on: GroupedImpressions | None = None,
    staged_rooms: dict[str, int] | None = None,
    feedback_rows: int = 4096,
    moved_by: float = 0.0,
) -> Run:
    """A run of the small model.

    Args:
      worker, server, placement: see `roles_of`.
      settings: how rows and vectors travel; the defaults if None.
      storage: format of feature tables at rest.
      on_host: feature tables stay on the host.
      optimizers: `adam` if None.
      spec: `model_spec` if None.
      click_log: `log` if None.
      per_server: rows between two devices in a round; None for `factor` times the most met.
      factor: see `measured_room`.
      measured_on: the impressions that room is measured on; those of the run if None.
      staged_rooms: rows of staged tables by embedding model; as measured if None.
      feedback_rows: places for errors of gradients.
      moved_by: how far parameters are from where they usually start.
    """
    spec = model_spec() if spec is None else spec
    settings = ExchangeConfig(chunk=64) if settings is None else settings
    optimizers = adam() if optimizers is None else optimizers
    click_log = log() if click_log is None else click_log
    roles = roles_of(worker, server, placement)
    source = BatchSource(click_log, click_log.train, SHAPE, epochs=2, seed=0)
    layouts = layouts_for(source, spec)
    distinct = settings.dedup_worker
    measured = source
    if measured_on is not None:
        measured = BatchSource(click_log, measured_on, SHAPE, seed=0)
    room = measured_room(measured, roles, layouts, spec.inputs, factor, distinct=distinct)
    if staged_rooms is not None:
        room = dataclasses.replace(
            room, staged_at_server=staged_rooms, staged_at_worker=staged_rooms
        )
    if per_server is not None:
        room = dataclasses.replace(room, capacities=_narrowed(room.capacities, per_server))
    model, params = build_model(spec, 0)
    exchanges = exchanges_for(settings, model, room, roles)
    tables, host_rows = tables_for(click_log, model, storage, settings, on_host, room, roles)
    planner = Planner(
        roles.requesters,
        roles.workers_per_list,
        room.capacities,
        layouts,
        spec.inputs,
        distinct,
        host_rows,
    )

    def fresh() -> TrainState:
        dense = numpy_model.moved(params, moved_by)
        key = jax.random.key(7)
        rows = id_table.init_rows(key, roles.servers, layouts.ids.n_rows, EMBEDDING_WIDTH, 0.1)
        errors = first_errors(exchanges, roles, feedback_rows, EMBEDDING_WIDTH)
        step = jnp.zeros((), jnp.int32)
        state = TrainState(step, dense, optimizers.init(dense), optimizers.rows.init(rows), errors)
        state = dataclasses.replace(state, moments=model.first_moments)
        return lay_out_state(state, roles, exchanges)

    make = colocated_train_step if roles.colocated else dedicated_train_step
    step = make(model, optimizers, exchanges, roles)
    return Run(source, roles, model, exchanges, planner, tables, step, fresh, fresh())


def layouts_for(source: BatchSource, spec: ModelSpec) -> Layouts:
    """Where the rows of the small log lie."""
    contents = source.log.contents
    return Layouts(
        RowLayout(source.stack.n_keys),
        {name: RowLayout(contents[table].features.count) for name, table in spec.tables.items()},
    )


def tables_for(
    click_log: ClickLog,
    model: Model,
    storage: feature_table.Storage,
    settings: ExchangeConfig,
    on_host: bool,
    room: Room,
    roles: Roles,
) -> tuple[dict[str, FeatureTable], HostRows | None]:
    """The feature tables, on the devices or on the host."""
    rows_of = {
        name: in_memory(click_log.contents[name].features).rows_VD for name in click_log.contents
    }
    in_batch = settings.strategy == "ps_worker"
    if not (on_host or in_batch):
        tables = {
            name: feature_rows(rows, roles.servers, storage) for name, rows in rows_of.items()
        }
        return tables, None
    host = {name: ArrayTable(rows, storage) for name, rows in rows_of.items()}
    rooms = room.staged_at_worker if in_batch else room.staged_at_server
    by_model = {name: host[table] for name, table in model.spec.tables.items()}
    return {}, HostRows(by_model, rooms, in_batch)


def feature_rows(
    rows_VD: np.ndarray, on: Mesh, storage: feature_table.Storage = "float32"
) -> FeatureTable:
    """Content rows, standardised by their own statistics."""
    return feature_table.build(rows_VD, None, feature_table.statistics(rows_VD, None), storage, on)


def _narrowed(capacities: Capacities, per_server: int) -> Capacities:
    return Capacities(
        dataclasses.replace(capacities.ids, per_server=per_server),
        {
            name: dataclasses.replace(capacity, per_server=per_server)
            for name, capacity in capacities.content.items()
        },
    )
