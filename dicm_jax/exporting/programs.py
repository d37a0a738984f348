"""The programs of a servable: functions of tables and integers, lowered for every platform.

Weights and tables are given to a program, so that a service can add items, and take up a newer
version of a model, without compiling anything. The same network code as in training runs here:
`dicm_jax.nn`.

Shape legend
    G   users of a call     B   candidates      L   behaviors per user     F   ID fields of a level
    K   places of ID rows   N   places of items   V   places of vectors    E   embedding width
    R   content rows to embed      D   content width
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from dicm_jax.ams.feature_table import ContentRows, Storage
from dicm_jax.checkpoint.manager import named_leaves
from dicm_jax.exporting.by_value import PoolingByValue, Values
from dicm_jax.nn.aggregators import MultiQueryAttentivePooling
from dicm_jax.nn.dicm import DICM
from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.prerank import PreRank
from dicm_jax.serving.format import MISSING_AD, MISSING_BEHAVIOR, is_weight
from dicm_jax.training.model import Model, build_model, click_probability

PLATFORMS = ("cpu", "cuda", "tpu")
CHUNK = 16
"""Candidates attended to at a time: what they compute stays in a CPU's cache. The candidates of a
call are a multiple of it."""

Tables = Mapping[str, Any]
Asked = Mapping[str, Array]
"""What is asked: ``user_GF`` and ``context_BF`` places of ID rows; ``behavior_GL`` and ``item_B``
places of items; ``group_B`` the user of each candidate."""


@dataclasses.dataclass(frozen=True)
class Served:
    """A trained model, ready to be lowered.

    Attributes:
      model: what it was made from.
      params, moments: of the workers' network, and its moving averages; programs take their own.
      values: the field whose values the ID query is computed for, if it is (`by_value`).
    """

    model: Model
    params: Any
    moments: Any
    values: Values | None = None

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """All arrays of the network by name, as programs take them among the tables."""
        return {
            f"{part}/{name}": np.asarray(leaf)
            for part, tree in (("net", self.params), ("moments", self.moments))
            for name, leaf in named_leaves(tree)
        }

    def _net(self, tables: Tables) -> DICM | PreRank:
        """The workers' network with the weights that are among the tables."""

        def filled(part: str, tree: Any) -> Any:
            leaves = [tables[f"{part}/{name}"] for name, _ in named_leaves(tree)]
            return jax.tree.unflatten(jax.tree.structure(tree), leaves)

        parts = filled("net", self.params), filled("moments", self.moments)
        return nnx.merge(self.model.net, *parts)

    def probability(self, tables: Tables, asked: Asked) -> Array:
        """Click probabilities of candidates, ``[B]``."""
        net, inputs = self._net(tables), self._inputs(tables, asked)
        if self.values is not None:
            assert isinstance(net, DICM)
            self._look_queries_up(net, tables["ids"], self._places(tables, asked), self.values)
        return click_probability(net, inputs)

    @staticmethod
    def _look_queries_up(net: DICM, row_KE: Array, place_BF: Array, values: Values) -> None:
        # Nothing, then every value; by numbers, as the table's length is not known.
        of_values = jnp.arange(values.first, values.first + values.count, dtype=jnp.int32)
        query_UQ = row_KE[jnp.concatenate([jnp.zeros(1, jnp.int32), of_values])]
        place_B = place_BF[:, values.column]
        value_B = jnp.where(place_B > 0, place_B - values.first + 1, 0)
        for view in net.views.values():
            assert isinstance(view.aggregator, MultiQueryAttentivePooling)
            # Not a part of the network's tree: it lives for one trace.
            by_value = PoolingByValue(view.aggregator, query_UQ, value_B)
            object.__setattr__(view, "aggregator", by_value)

    @staticmethod
    def _places(tables: Tables, asked: Asked) -> Array:
        return jnp.concatenate([tables["items"][asked["item_B"]], asked["context_BF"]], axis=1)

    def attention(self, tables: Tables, asked: Asked) -> dict[str, Array]:
        """What each behavior counts for each candidate, ``[B, L]`` by content and query."""
        net = self._net(tables)
        assert isinstance(net, DICM)
        return net.attention(self._inputs(tables, asked))

    def user_vectors(self, tables: Tables, asked: Asked) -> Array:
        """Pre-rank's ``u`` of users, ``[G, P]``."""
        net = self._net(tables)
        assert isinstance(net, PreRank)
        return net.user_vectors(self._inputs(tables, asked))

    def item_vectors(self, tables: Tables, asked: Asked) -> Array:
        """Pre-rank's ``v`` of candidates, ``[B, P]``."""
        net = self._net(tables)
        assert isinstance(net, PreRank)
        return net.ad_vectors(self._inputs(tables, asked))

    def _inputs(self, tables: Tables, asked: Asked) -> Inputs:
        row_KE, items_NF = tables["ids"], tables["items"]
        behavior_GL, item_B = asked["behavior_GL"], asked["item_B"]
        targets = list(self.model.spec.net.behavior_targets)
        behavior_GLFE = row_KE[items_NF[behavior_GL][..., targets]]
        ad_BE, behavior_GLE = {}, {}
        for seen in self.model.spec.inputs:
            place_N, vectors = tables[f"{seen.content}_rows"], tables[f"{seen.model}_vectors"]
            scale = tables.get(f"{seen.model}_scale")
            if seen.side == "ad":
                ad_BE[seen.content] = _read(vectors, scale, place_N[item_B])
            else:
                place_GL = place_N[behavior_GL]
                place_GL = jnp.where(place_GL == MISSING_AD, MISSING_BEHAVIOR, place_GL)
                behavior_GLE[seen.content] = _read(vectors, scale, place_GL)
        return Inputs(
            user_GFE=row_KE[asked["user_GF"]],
            impression_BFE=row_KE[self._places(tables, asked)],
            behavior_ids_GLK=behavior_GLFE.reshape(*behavior_GL.shape, -1),
            ad_BE=ad_BE,
            behavior_GLE=behavior_GLE,
            behavior_mask_GL=behavior_GL > 0,
            group_B=asked["group_B"],
            there_B=item_B > 0,
        )


def _read(stored: Array, scale: Array | None, place: Array) -> Array:
    """Vectors at places, as float32, whatever their format at rest."""
    vectors = stored[place].astype(jnp.float32)
    return vectors if scale is None else vectors * scale[place][..., None]


def served(model: Model, params: Any, moments: Any, values: Values | None = None) -> Served:
    """A model with its trained parameters, as it runs in a service."""
    net = dataclasses.replace(model.spec.net, attention_chunk=CHUNK)
    whole, _ = build_model(dataclasses.replace(model.spec, net=net), seed=0)
    return Served(whole, params, moments, values)


def lower(function: Callable[..., Any], *arguments: Any) -> bytes:
    """A function as StableHLO for `PLATFORMS`, serialized.

    Args:
      function: of arrays.
      arguments: what it takes, as `jax.ShapeDtypeStruct`; dims may be symbolic (`dims`).
    """
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    return bytes(exported.serialize())


def dims(users: int | None = None) -> dict[str, Any]:
    """Symbolic sizes ``G, B, L, K, N, V`` of one scope; `users` is ``G`` where it is known."""
    # At least two chunks, so that whether to cut is known.
    symbols = jax.export.symbolic_shape("G, C, L, K, N, V", constraints=["C >= 2"])
    sizes = dict(zip("GCLKNV", symbols, strict=True))
    return sizes | {"B": CHUNK * sizes["C"], "G": users or sizes["G"]}


def asked_shapes(sizes: Mapping[str, Any], user_fields: int, context_fields: int) -> dict[str, Any]:
    """The shapes of `Asked`."""
    whole = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)  # noqa: E731
    return {
        "user_GF": whole(sizes["G"], user_fields),
        "behavior_GL": whole(sizes["G"], sizes["L"]),
        "item_B": whole(sizes["B"]),
        "context_BF": whole(sizes["B"], context_fields),
        "group_B": whole(sizes["B"]),
    }


def table_shapes(sizes: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of tables with as many places as one likes."""
    first = {"ids": "K", "items": "N"}

    def shape(name: str, array: Any) -> Any:
        if is_weight(name):
            return array.shape
        return sizes[first.get(name, "N" if name.endswith("_rows") else "V")], *array.shape[1:]

    return {
        name: jax.ShapeDtypeStruct(shape(name, array), array.dtype)
        for name, array in tables.items()
    }


def embed_program(
    model: Model, name: str, storage: Storage
) -> Callable[[Any, Array, Array, Array], Array]:
    """From feature rows as an encoder makes them to vectors of one embedding model, ``[R, E]``.

    Rows are standardised with the table's statistics and rounded as the table's rows are.

    Args:
      model: the model.
      name: of the embedding model.
      storage: format at rest of the table that it reads.
    """
    embedder = model.embedders[name]

    def embed(params: Any, mean_D: Array, deviation_D: Array, rows_RD: Array) -> Array:
        standard_RD = (rows_RD - mean_D[None]) / deviation_D[None]
        rows = at_rest(standard_RD, storage)
        return embedder.narrow(params, embedder.wide(params, rows))

    return embed


def at_rest(standard_RD: Array, storage: Storage) -> ContentRows:
    """Rows as a table of this format would give them, `feature_table.to_rest` and back."""
    match storage:
        case "float32":
            return ContentRows(standard_RD, None)
        case "bfloat16":
            return ContentRows(standard_RD.astype(jnp.bfloat16), None)
        case "int8":
            scale_R = jnp.maximum(jnp.max(jnp.abs(standard_RD), axis=1), 1e-12) / 127.0
            return ContentRows(jnp.rint(standard_RD / scale_R[:, None]).astype(jnp.int8), scale_R)
