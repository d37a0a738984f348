"""From a checked configuration and a log to the parts that a run is made of."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dicm_jax.ams import feature_table, id_table
from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, make_mesh, mesh_shape, shape_of
from dicm_jax.config import Config, MeshConfig, OptimizerConfig, TrainConfig
from dicm_jax.data.batches import BatchShape, BatchSource
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.errors import ConfigError, MeshError
from dicm_jax.features.directions import whitened_directions
from dicm_jax.nn.dicm import NetSpec
from dicm_jax.training import schedules
from dicm_jax.training.batch import Batch, Capacities, plan_batch
from dicm_jax.training.capacity import measured_capacities
from dicm_jax.training.feed import Plan
from dicm_jax.training.model import CompressorSpec, ModelSpec
from dicm_jax.training.row_adam import RowAdam
from dicm_jax.training.state import Params, TrainState, state_shardings
from dicm_jax.training.step import Optimizers


def start_mesh(config: MeshConfig, lanes: int) -> Mesh:
    """The mesh that a run asks for, on the devices of this machine.

    Raises:
      MeshError: the devices cannot be arranged so, or the lanes of a batch cannot be dealt to them.
    """
    if config.virtual_devices is not None:
        jax.config.update("jax_num_cpu_devices", config.virtual_devices)
    shape = mesh_shape(len(jax.devices()), config.worker, config.server)
    if lanes % shape.devices:
        raise MeshError(
            f"train.lanes={lanes} cannot be dealt out evenly to {shape.devices} devices: set"
            f" train.lanes to a multiple of {shape.devices}"
        )
    return make_mesh(shape)


def train_source(config: Config, log: ClickLog) -> BatchSource:
    """The batches of a training run, in its order."""
    shape = _batch_shape(config.train, log.train, config.train.batch_size, config.data.behaviors)
    return BatchSource(log, log.train, shape, epochs=config.train.epochs, seed=config.train.seed)


def evaluation_source(config: Config, log: ClickLog, split: str) -> BatchSource:
    """The batches of a split, once, in the order of the log."""
    impressions = log.split(split)
    size = config.evaluate.batch_size
    shape = _batch_shape(config.train, impressions, size, config.data.behaviors)
    return BatchSource(log, impressions, shape)


def _batch_shape(
    config: TrainConfig, split: GroupedImpressions, size: int, behaviors: int
) -> BatchShape:
    if size % config.lanes:
        raise ConfigError(
            f"a batch of {size} impressions cannot be cut into train.lanes={config.lanes} equal"
            f" lanes: use a multiple of {config.lanes}"
        )
    impressions = size // config.lanes
    groups = config.groups_per_lane or _usual_groups(split, impressions)
    return BatchShape(config.lanes, impressions, groups, behaviors)


def _usual_groups(split: GroupedImpressions, impressions: int) -> int:
    """Room for half as many groups again as a lane holds on average: few lanes close early."""
    per_group = split.n_impressions / split.n_groups
    return min(impressions, math.ceil(1.5 * impressions / per_group) + 1)


def model_spec(config: Config, log: ClickLog, source: BatchSource) -> ModelSpec:
    """Sizes of the model for a log.

    Raises:
      ConfigError: a query field that the log does not have, or widths that do not fit.
    """
    settings, names = config.model, source.stack.impression_names
    unknown = [name for name in settings.query_fields if name not in names]
    if unknown:
        raise ConfigError(
            f"model.query_fields names {unknown[0]!r}, which is no field of log {log.name!r}: it"
            f" has {', '.join(names)}"
        )
    if settings.images != "none" and settings.compressor_widths[-1] != settings.embedding_width:
        raise ConfigError(
            f"model.compressor_widths ends in {settings.compressor_widths[-1]}, but"
            f" model.embedding_width is {settings.embedding_width}: make them equal"
        )
    if settings.images == "behavior" and not settings.query_fields:
        raise ConfigError(
            "model.images='behavior' with model.query_fields=(): attention over behaviors has no"
            f" query; name ID fields of the impression, of {', '.join(names)}"
        )
    net = NetSpec(
        user_fields=len(log.fields_of("user")),
        impression_fields=len(names),
        behavior_ids=bool(log.fields_of("behavior")),
        query_fields=tuple(names.index(name) for name in settings.query_fields),
        embedding_width=settings.embedding_width,
        images=settings.images,
        attention_widths=settings.attention_widths,
        interaction=settings.interaction,
        normalizer=settings.normalizer,
        match=settings.match,
        attention_chunk=settings.attention_chunk,
        head_widths=settings.head_widths,
    )
    compressor = CompressorSpec(
        content_width=log.features.rows_VD.shape[1],
        widths=settings.compressor_widths,
        compute_dtype=settings.compute_dtype,
        output_norm=settings.compressor_output_norm,
    )
    return ModelSpec(net, compressor, settings.share_compressor, settings.id_init_scale)


def optimizers(config: OptimizerConfig, steps: int) -> Optimizers:
    """Adam for dense parameters, row-sparse Adam for ID rows, with their schedules."""
    schedule = _schedule(config, steps)
    dense = functools.partial(optax.adam, b1=config.b1, b2=config.b2, eps=config.eps)
    return Optimizers(
        dense=optax.partition(
            {
                "net": dense(schedule(config.learning_rate)),
                "embedders": dense(
                    schedule(config.compressor_learning_rate or config.learning_rate)
                ),
            },
            _part_of,
        ),
        rows=RowAdam(config.b1, config.b2, config.eps),
        row_schedule=schedule(config.id_learning_rate or config.learning_rate),
    )


def _schedule(config: OptimizerConfig, steps: int) -> Callable[[float], optax.Schedule]:
    if config.schedule == "cosine":
        return lambda rate: schedules.cosine(rate, steps)
    return lambda rate: schedules.staircase(rate, config.decay_rate, config.decay_steps)


def _part_of(params: Params) -> Params:
    """Name of the optimiser of each leaf: the field of `Params` that it lies under."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].name, params)


def initial_state(
    config: Config,
    params: Params,
    moves: Optimizers,
    source: BatchSource,
    mesh: Mesh,
) -> TrainState:
    """The state that a run starts from, laid out on the mesh."""
    n_rows = RowLayout(source.stack.n_keys).n_rows
    key = jax.random.fold_in(jax.random.key(config.train.seed), 2**31 - 1)
    settings = config.model
    rows = id_table.init_rows(key, mesh, n_rows, settings.embedding_width, settings.id_init_scale)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        dense_optimizer=moves.dense.init(params),  # pyright: ignore[reportArgumentType]
        ids=moves.rows.init(rows),
    )
    return jax.device_put(state, state_shardings(state, mesh))


def build_features(config: Config, log: ClickLog, mesh: Mesh) -> FeatureTable | None:
    """The frozen table on the servers; None for a model that sees no images."""
    if config.model.images == "none":
        return None
    rows_VD, scale_V = log.features.rows_VD, log.features.scale_V
    stats = feature_table.statistics(rows_VD, scale_V)
    return feature_table.build(rows_VD, scale_V, stats, config.features.storage, mesh)


def starting_directions(config: Config, log: ClickLog, spec: ModelSpec) -> np.ndarray | None:
    """Where embedding models start, if from the data; None for random weights."""
    if config.model.compressor_init != "pca" or not spec.image_models:
        return None
    rows_VD, scale_V = log.features.rows_VD, log.features.scale_V
    stats = feature_table.statistics(rows_VD, scale_V)
    return whitened_directions(rows_VD, scale_V, stats, spec.compressor.widths[0])


def capacities(config: Config, source: BatchSource, mesh: Mesh, spec: ModelSpec) -> Capacities:
    """Room of the exchanges, measured on batches of `source`."""
    return measured_capacities(
        source, shape_of(mesh), spec.image_models, config.train.capacity_factor
    )


def planner(source: BatchSource, mesh: Mesh, room: Capacities, spec: ModelSpec) -> Plan:
    """The function that makes batch `n` of `source` ready for the devices."""
    shape: MeshShape = shape_of(mesh)

    def plan(number: int) -> Batch:
        return plan_batch(source[number], shape.devices, room, spec.image_models)

    return plan
