"""The training step of any size, and its arguments as shapes: nothing of them is ever allocated.

Shape legend (the dims of one device)
    A   lanes: 1     G   groups     B   impressions     L   behaviors per group
    V   rows of a table     F   ID fields of a level     E   embedding width     D   content width
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from benchmarks._key_distribution import BatchSize, Room
from dicm_jax.ams.content import ModelServer
from dicm_jax.ams.embedding import Chunks
from dicm_jax.ams.feature_table import AT_REST, FeatureTable, Storage
from dicm_jax.ams.keys import IMAGE, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import Roles, batch_sharding, shape_of, table_sharding
from dicm_jax.ams.plan import Capacity
from dicm_jax.ams.strategy import Channel
from dicm_jax.ams.wire import WIRES
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.nn.spec import NetSpec
from dicm_jax.training.batch import Capacities
from dicm_jax.training.model import CompressorSpec, Model, ModelSpec, build_model
from dicm_jax.training.planning import Layouts, Planner, batch_of
from dicm_jax.training.row_adam import RowAdam
from dicm_jax.training.servers import Exchanges
from dicm_jax.training.state import Params, StateOf, TrainState, state_shardings
from dicm_jax.training.step import Optimizers, colocated_train_step

TILE = 128
"""Elements that the minor dim of an array on a TPU is padded to."""
ATTENTION_CHUNK = 4096
CHUNKS = Chunks(whole=1024, rest=128)
"""Chunks for accelerators, larger than a CPU's."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is compiled.

    Attributes:
      batch: of all devices.
      images: rows of the feature table.
      ids: rows of the ID table, images' own IDs included.
      content_width: features of an image.
      storage: format of its rows at rest.
      compute_dtype: of the compressor's wide product.
      wire: format of vectors and gradients on their way.
    """

    batch: BatchSize = dataclasses.field(default_factory=BatchSize)
    images: int = 120_000_000
    ids: int = 400_000_000
    content_width: int = 4096
    storage: Storage = "bfloat16"
    compute_dtype: str = "bfloat16"
    wire: str = "float32"


@dataclasses.dataclass(frozen=True)
class Places:
    """Places of one device's share of a batch, rounded up."""

    impressions: int
    groups: int
    behaviors: int
    user_fields: int
    impression_fields: int

    @property
    def ids(self) -> int:
        per_group = self.user_fields + self.behaviors
        return self.impressions * self.impression_fields + self.groups * per_group


def places(batch: BatchSize, devices: int) -> Places:
    """One device's places; the ad image's own ID is one more field of an impression."""
    impressions = math.ceil(batch.impressions / devices)
    return Places(
        impressions,
        math.ceil(impressions / batch.impressions_per_group),
        batch.behaviors[1],
        batch.user_fields,
        batch.impression_fields + 1,
    )


def whole_tiles(rows: int, width: int) -> int:
    """As many rows of `width` elements as fill the tiles that `rows` of them need."""
    return TILE * math.ceil(rows * width / TILE) // width


def abstract_step(sizes: Sizes, rooms: dict[str, Room], mesh: Mesh) -> tuple[Any, tuple[Any, ...]]:
    """The jitted step, and shapes with shardings for its state, tables and batch."""
    share, width = places(sizes.batch, mesh.size), 12
    spec = ModelSpec(
        NetSpec(
            user_fields=share.user_fields,
            impression_fields=share.impression_fields,
            behavior_targets=(0,),
            query_fields=(1,),
            embedding_width=width,
            attention_chunk=ATTENTION_CHUNK,
        ),
        CompressorSpec(compute_dtype=sizes.compute_dtype),
        {IMAGE: sizes.content_width},
    )
    model, params = _abstract_model(spec)
    moves = Optimizers(optax.adam(1e-3), optax.adam(1e-3), RowAdam(), lambda step: 1e-3)
    roles = Roles(mesh, mesh)
    layouts = Layouts(RowLayout(sizes.ids), {name: RowLayout(sizes.images) for name in spec.tables})
    room = _capacities(layouts, rooms, share, mesh, width)
    wire = WIRES[sizes.wire]
    exchanges = Exchanges(
        strategy=ModelServer(),
        content={
            name: Channel(model.embedders[name], room.content[name], wire, CHUNKS)
            for name in spec.tables
        },
        tables=spec.tables,
        ids=room.ids,
        id_wire=wire,
    )
    step = colocated_train_step(model, moves, exchanges, roles)
    state = _abstract_state(layouts.ids, width, params, moves, roles)
    tables = {IMAGE: _abstract_table(sizes, layouts.content["ad"], mesh)}
    return step, (state, tables, _abstract_batch(spec, layouts, room, share, mesh))


def _abstract_model(spec: ModelSpec) -> tuple[Model, Params]:
    """The model, and the shapes of its parameters."""
    made: list[Model] = []

    def build() -> Params:
        model, params = build_model(spec, seed=0)
        made.append(model)
        return params

    params = jax.eval_shape(build)
    return made[0], params


def _capacities(
    layouts: Layouts, rooms: dict[str, Room], share: Places, mesh: Mesh, width: int
) -> Capacities:
    servers = shape_of(mesh).server
    bounds = {
        "ad": share.impressions,
        "behavior": share.groups * share.behaviors,
        "ids": share.ids,
    }

    def room(name: str, layout: RowLayout) -> Capacity:
        per_server = min(whole_tiles(rooms[name].per_server, width), bounds[name])
        return Capacity(bounds[name], per_server, servers, layout.rows_per_server(servers))

    content = {name: room(name, layout) for name, layout in layouts.content.items()}
    return Capacities(room("ids", layouts.ids), content)


def _abstract_state(
    layout: RowLayout, width: int, params: Params, moves: Optimizers, roles: Roles
) -> TrainState:
    rows = jax.ShapeDtypeStruct((layout.n_rows, width), jnp.float32)
    state = StateOf(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        params=params,
        dense_optimizer=jax.eval_shape(moves.init, params),
        ids=jax.eval_shape(moves.rows.init, rows),
        errors={},
    )
    shardings = state_shardings(state, roles, embed_at_servers=True)
    return jax.tree.map(_placed, state, shardings)


def _abstract_table(sizes: Sizes, layout: RowLayout, mesh: Mesh) -> FeatureTable:
    by_rows = table_sharding(mesh)
    shape = (layout.n_rows, sizes.content_width)
    table: Any = FeatureTable  # of shapes in the place of arrays
    return table(
        jax.ShapeDtypeStruct(shape, AT_REST[sizes.storage], sharding=by_rows),
        jax.ShapeDtypeStruct(shape[:1], jnp.float32, sharding=by_rows)
        if sizes.storage == "int8"
        else None,
    )


def _abstract_batch(
    spec: ModelSpec, layouts: Layouts, room: Capacities, share: Places, mesh: Mesh
) -> Any:
    """The shapes of a planned batch: one device's part of an empty one, times the devices."""
    planner = Planner(1, 1, room, layouts, spec.inputs)
    one = batch_of(planner.plan(_empty_keys(share), [0]))
    by_device = batch_sharding(mesh)

    def of_all(part: np.ndarray) -> jax.ShapeDtypeStruct:
        shape = (mesh.size * part.shape[0], *part.shape[1:])
        return jax.ShapeDtypeStruct(shape, part.dtype, sharding=by_device)

    return jax.tree.map(of_all, one)


def _empty_keys(share: Places) -> KeyBatch:
    """One lane of nothing but padding."""
    keys = lambda *shape: np.full((1, *shape), PADDING, np.int32)  # noqa: E731
    impressions, behaviors = share.impressions, (share.groups, share.behaviors)
    return KeyBatch(
        user_AGF=keys(share.groups, share.user_fields),
        impression_ABF=keys(impressions, share.impression_fields),
        behavior_AGLF=keys(*behaviors, 1),
        ad_AB={IMAGE: keys(impressions)},
        behavior_content_AGL={IMAGE: keys(*behaviors)},
        mask_AGL=np.zeros((1, *behaviors), bool),
        group_AB=np.zeros((1, impressions), np.int32),
        label_AB=np.zeros((1, impressions), np.int32),
        weight_AB=np.zeros((1, impressions), np.float32),
        impression_AB=np.full((1, impressions), -1, np.int32),
    )


def _placed(shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
