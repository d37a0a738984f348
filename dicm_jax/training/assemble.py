"""From a checked configuration and a log to the parts that a run is made of."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dicm_jax.ams import id_table
from dicm_jax.ams.feedback import no_errors
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import Roles
from dicm_jax.config import Config, OptimizerConfig, TrainConfig
from dicm_jax.data.batches import BatchSource, Source
from dicm_jax.data.frequency import key_counts
from dicm_jax.data.key_batch import FieldStack
from dicm_jax.data.lanes import BatchShape
from dicm_jax.data.schema import ClickLog, GroupedImpressions, StreamedGroups
from dicm_jax.data.streaming.source import StreamSource
from dicm_jax.errors import ConfigError
from dicm_jax.features.directions import whitened_directions
from dicm_jax.features.table_files import TableFiles
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training import schedules
from dicm_jax.training.connection import Connection, connect, on_host
from dicm_jax.training.frequency_decay import frequency_decay
from dicm_jax.training.model import CompressorSpec, Model, ModelSpec, build_model
from dicm_jax.training.planning import Layouts
from dicm_jax.training.row_adam import RowAdam, RowOptimizer
from dicm_jax.training.servers import Exchanges, Tables
from dicm_jax.training.state import Params, TrainState, state_shardings
from dicm_jax.training.step import Optimizers
from dicm_jax.training.tables import device_tables, layouts_of, some_rows, table_files


@dataclasses.dataclass(frozen=True)
class Job:
    """What training and evaluation of a run share.

    Attributes:
      config: its settings.
      log: its data.
      roles: its devices.
      spec: sizes of its model.
      files: feature tables in files, by content.
      tables: feature tables in device memory, by content.
    """

    config: Config
    log: ClickLog
    roles: Roles
    spec: ModelSpec
    files: Mapping[str, TableFiles]
    tables: Tables

    def connect(self, source: Source, model: Model) -> Connection:
        """Workers and servers, connected for the batches of `source`."""
        content = layouts_of(self.log, self.files)
        layouts = Layouts(
            ids=RowLayout(source.stack.n_keys),
            content={model: content[table] for model, table in self.spec.tables.items()},
        )
        host = self.files if on_host(self.config) else {}
        return connect(self.config, source, model, layouts, self.roles, host)


def start_job(config: Config, log: ClickLog, roles: Roles) -> Job:
    """Read or write the feature tables of a run and lay them where they belong."""
    spec = model_spec(config, log)
    contents = spec.net.seen_contents
    files = table_files(config, log, contents)
    tables = {} if on_host(config) else device_tables(config, log, contents, files, roles)
    return Job(config, log, roles, spec, files, tables)


def train_source(config: Config, log: ClickLog) -> Source:
    """The batches of a training run, in its order."""
    split, epochs, seed = log.train, config.train.epochs, config.train.seed
    shape = _batch_shape(config.train, split, config.train.batch_size, config.data.behaviors)
    if isinstance(split, StreamedGroups):
        window_blocks = config.data.window_blocks
        return StreamSource(
            log, split, shape, window_blocks=window_blocks, epochs=epochs, seed=seed
        )
    return BatchSource(log, split, shape, epochs=epochs, seed=seed)


def evaluation_source(
    config: Config, log: ClickLog, impressions: GroupedImpressions
) -> BatchSource:
    """The batches of given impressions, once, in their order."""
    size = config.evaluate.batch_size
    shape = _batch_shape(config.train, impressions, size, config.data.behaviors)
    return BatchSource(log, impressions, shape)


def _batch_shape(
    config: TrainConfig, split: GroupedImpressions | StreamedGroups, size: int, behaviors: int
) -> BatchShape:
    if size % config.lanes:
        raise ConfigError(
            f"a batch of {size} impressions cannot be cut into train.lanes={config.lanes} equal"
            f" lanes: use a multiple of {config.lanes}"
        )
    impressions = size // config.lanes
    groups = config.groups_per_lane or _usual_groups(split, impressions)
    return BatchShape(config.lanes, impressions, groups, behaviors, config.whole_groups)


def _usual_groups(split: GroupedImpressions | StreamedGroups, impressions: int) -> int:
    """Room for half as many groups again as a lane holds on average: few lanes close early."""
    per_group = split.n_impressions / split.n_groups
    return min(impressions, math.ceil(1.5 * impressions / per_group) + 1)


def model_spec(config: Config, log: ClickLog) -> ModelSpec:
    """Sizes of the model for a log.

    Raises:
      ConfigError: a query field that the log does not have, or widths that do not fit.
    """
    settings = config.model
    names = [field.name for field in log.fields_of("item") + log.fields_of("context")]
    unknown = [name for name in settings.query_fields if name not in names]
    if unknown:
        raise ConfigError(
            f"model.query_fields names {unknown[0]!r}, which is no field of log {log.name!r}: it"
            f" has {', '.join(names)}"
        )
    vector_width = settings.compressor_widths[-1]
    compares = settings.similarity or settings.stage == "prerank"
    if settings.images != "none" and not (
        vector_width == settings.embedding_width
        or (compares and vector_width > settings.embedding_width)
    ):
        raise ConfigError(
            f"model.compressor_widths ends in {vector_width}, but model.embedding_width is"
            f" {settings.embedding_width}: make them equal; only with model.similarity=true or"
            " model.stage='prerank' may vectors be wider than ID embeddings"
        )
    behavior_fields = [field.vocabulary for field in log.fields_of("behavior")]
    unknown = [name for name in settings.match_fields if name not in behavior_fields]
    if unknown:
        raise ConfigError(
            f"model.match_fields names {unknown[0]!r}, which is no ID field of behaviors in log"
            f" {log.name!r}: they have {', '.join(behavior_fields) or 'none'}; add it by"
            " data.behavior_fields"
        )
    attends = settings.aggregator in ("attentive", "multi_query")
    if attends and settings.images == "behavior" and not settings.query_fields:
        raise ConfigError(
            "model.images='behavior' with model.query_fields=(): attention over behaviors has no"
            f" query; name ID fields of the impression, of {', '.join(names)}"
        )
    if settings.basic_net == "din" and not set(behavior_fields) - set(settings.match_fields):
        raise ConfigError(
            f"model.basic_net='din' on log {log.name!r}, whose behaviors have no ID fields but"
            f" model.match_fields={settings.match_fields}: DIN attends to them; use 'embedding_mlp'"
            " or 'lr', or add fields by data.behavior_fields"
        )
    net = NetSpec(
        user_fields=len(log.fields_of("user")),
        impression_fields=len(names),
        behavior_targets=FieldStack(log).behavior_targets,
        query_fields=tuple(names.index(name) for name in settings.query_fields),
        embedding_width=settings.embedding_width,
        vector_width=vector_width,
        images=settings.images,
        contents=tuple(log.contents),
        stage=settings.stage,
        aggregator=settings.aggregator,
        attention_widths=settings.attention_widths,
        interaction=settings.interaction,
        normalizer=settings.normalizer,
        match=settings.match,
        similarity=settings.similarity,
        match_fields=tuple(behavior_fields.index(name) for name in settings.match_fields),
        attention_chunk=settings.attention_chunk,
        concat_behaviors=settings.concat_behaviors,
        basic_net=settings.basic_net,
        head_widths=settings.head_widths,
        din_widths=settings.din_widths,
        din_interaction=settings.din_interaction,
        din_normalizer=settings.din_normalizer,
        din_activation=settings.din_activation,
        tower_widths=settings.tower_widths,
    )
    compressor = CompressorSpec(
        widths=settings.compressor_widths,
        compute_dtype=settings.compute_dtype,
        output_norm=settings.compressor_output_norm,
    )
    widths = {name: content.features.width for name, content in log.contents.items()}
    return ModelSpec(net, compressor, widths, settings.share_compressor, settings.id_init_scale)


def new_model(job: Job, *, from_scratch: bool = True) -> tuple[Model, Params]:
    """The model and its first parameters; without their costly start if they will be restored."""
    directions = starting_directions(job) if from_scratch else {}
    return build_model(job.spec, job.config.train.seed, directions)


def optimizers(config: OptimizerConfig, source: Source) -> Optimizers:
    """Adam for dense parameters, row-sparse Adam for ID rows, with their schedules.

    Args:
      config: their settings.
      source: the batches of the run; schedules span all of them.
    """
    schedule = _schedule(config, len(source))
    dense = functools.partial(optax.adam, b1=config.b1, b2=config.b2, eps=config.eps)
    return Optimizers(
        embedders=dense(schedule(config.compressor_learning_rate or config.learning_rate)),
        net=dense(schedule(config.learning_rate)),
        rows=_row_optimizer(config, source),
        row_schedule=schedule(config.id_learning_rate or config.learning_rate),
    )


def _row_optimizer(config: OptimizerConfig, source: Source) -> RowOptimizer:
    adam = RowAdam(config.b1, config.b2, config.eps)
    if not config.id_regularization:
        return adam
    layout = RowLayout(source.stack.n_keys)
    row_of_key = layout.row(np.arange(source.stack.n_keys))
    return frequency_decay(
        adam, config.id_regularization, row_of_key, key_counts(source), layout.n_rows
    )


def _schedule(config: OptimizerConfig, steps: int) -> Callable[[float], optax.Schedule]:
    if config.schedule == "cosine":
        return lambda rate: schedules.cosine(rate, steps)
    return lambda rate: schedules.staircase(rate, config.decay_rate, config.decay_steps)


def initial_state(
    job: Job, model: Model, params: Params, moves: Optimizers, connection: Connection
) -> TrainState:
    """The state that a run starts from, laid out on the devices."""
    settings, roles = job.config.model, job.roles
    n_rows = RowLayout(connection.source.stack.n_keys).n_rows
    key = jax.random.fold_in(jax.random.key(job.config.train.seed), 2**31 - 1)
    rows = id_table.init_rows(
        key, roles.servers, n_rows, settings.embedding_width, _id_scales(job, connection.source)
    )
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        dense_optimizer=moves.init(params),
        ids=moves.rows.init(rows),
        errors=first_errors(
            connection.exchanges,
            roles,
            job.config.exchange.feedback_rows,
            settings.embedding_width,
        ),
        moments=model.first_moments,
    )
    return lay_out_state(state, roles, connection.exchanges)


def _id_scales(job: Job, source: Source) -> np.ndarray:
    """Standard deviation of each new ID row, ``[V, 1]``."""
    settings, stack = job.config.model, source.stack
    layout = RowLayout(stack.n_keys)
    scale_V1 = np.full((layout.n_rows, 1), settings.id_init_scale, np.float32)
    for name in settings.match_fields:
        keys = stack.start[name] + np.arange(job.log.vocabulary_sizes[name])
        scale_V1[layout.row(keys)] = settings.match_init_scale
    return scale_V1


def first_errors(exchanges: Exchanges, roles: Roles, places: int, id_width: int) -> dict[str, Any]:
    """Nothing owed yet to the rows of any list that travels by an inexact wire."""
    widths = {name: channel.embedder.width for name, channel in exchanges.content.items()}
    return {
        name: no_errors(roles.requesters * places, widths.get(name, id_width))
        for name, wire in exchanges.wires.items()
        if not wire.exact
    }


def lay_out_state(state: TrainState, roles: Roles, exchanges: Exchanges) -> TrainState:
    """A state that every process has the same values of, on the devices where it belongs."""
    shardings = state_shardings(state, roles, embed_at_servers=exchanges.strategy.at_servers)

    def lay(array: Any, sharding: jax.sharding.NamedSharding) -> jax.Array:
        if isinstance(array, jax.Array) and array.sharding == sharding:
            return array
        on_host = np.asarray(array)
        return jax.make_array_from_callback(on_host.shape, sharding, lambda index: on_host[index])

    return jax.tree.map(lay, state, shardings)


def starting_directions(job: Job) -> dict[str, np.ndarray]:
    """Where embedding models start, by content, if from the data; none for random weights."""
    if job.config.model.compressor_init != "pca":
        return {}
    directions = {}
    for name in job.spec.net.seen_contents:
        rows_ND, scale_N, stats = some_rows(job.log.contents[name].features, job.files.get(name))
        directions[name] = whitened_directions(
            rows_ND, scale_N, stats, job.spec.compressor.widths[0]
        )
    return directions
