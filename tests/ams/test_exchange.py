"""Pulls and pushes on meshes of every shape, against NumPy: no key dropped, no gradient lost.

Requests are skewed: popular keys that every device wants, keys of one virtual shard, and a device
that wants nothing. The smallest capacities force many rounds.

Shape legend
    N   devices    K   slots of a list of unique rows    V   rows of a table
    E   embedding width    D   content width
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dicm_jax.ams import id_table
from dicm_jax.ams.content import ModelServer
from dicm_jax.ams.embedding import Chunks, Embedder
from dicm_jax.ams.feature_table import ContentRows, FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import (
    BATCH_SPEC,
    BOTH,
    REPLICATED_SPEC,
    TABLE_SPEC,
    MeshShape,
    batch_sharding,
    make_mesh,
    table_sharding,
)
from dicm_jax.ams.order import after
from dicm_jax.ams.plan import UNUSED, Capacity, plan
from dicm_jax.ams.strategy import Channel
from dicm_jax.ams.wire import WIRES

KEYS = 3000
SLOTS = 60
EMBEDDING_WIDTH = 5
CONTENT_WIDTH = 7
MESHES = [(1, 1), (1, 8), (2, 4), (4, 2), (8, 1)]
CAPACITIES = [1, 6, SLOTS]
LAYOUT = RowLayout(KEYS)
WIRE = WIRES["float32"]


def wide(params: dict[str, Any], rows: ContentRows) -> Any:
    return rows.value_UD @ params["weight"]


def narrow(params: dict[str, Any], hidden_NE: Any) -> Any:
    """Not linear, and not zero where a row is zero."""
    return jnp.tanh(hidden_NE) + params["bias"][None, :]


def count_and_add(touched: id_table.Table, gradient_UE: Any) -> id_table.Table:
    """Add the gradient to the row and count how often the row is updated."""
    return {"row": touched["row"] + gradient_UE, "updates": touched["updates"] + 1}


def capacity_for(per_server: int, servers: int) -> Capacity:
    return Capacity(SLOTS, per_server, servers, LAYOUT.rows_per_server(servers))


def requested_keys(device: int, devices: int) -> np.ndarray:
    if devices > 1 and device == devices - 1:
        return np.empty(0, int)
    rng = np.random.default_rng(device)
    popular = np.floor(40 * rng.random(25) ** 2).astype(int) * 71
    neighbors = rng.integers(0, KEYS // 1024, 5) * 1024 + 3
    return np.concatenate([popular, neighbors, rng.integers(0, KEYS, 30)])


@dataclasses.dataclass
class Exchanged:
    """What went into an exchange over a mesh, and what came out."""

    shape: MeshShape
    rows_NK: np.ndarray
    gradients_NKE: np.ndarray
    row_VE: np.ndarray
    stored_VD: np.ndarray
    params: dict[str, np.ndarray]
    ids_NKE: np.ndarray
    vectors_NKE: np.ndarray
    table: id_table.Table
    g_params: dict[str, np.ndarray]
    updated_N: np.ndarray
    embedded_N: np.ndarray

    @property
    def wanted_NK(self) -> np.ndarray:
        return self.rows_NK != UNUSED


@pytest.fixture(
    scope="module",
    params=[*itertools.product(MESHES, (CAPACITIES[0], CAPACITIES[-1])), ((2, 4), CAPACITIES[1])],
    ids=lambda param: f"{param[0][0]}x{param[0][1]}-{param[1]}",
)
def exchanged(request) -> Exchanged:
    """Every pull and push at once, for one mesh and one capacity."""
    (worker, server), per_server = request.param
    mesh = make_mesh(MeshShape(worker, server))
    devices = mesh.devices.size
    capacity = capacity_for(per_server, server)
    requests = [plan(requested_keys(d, devices), LAYOUT, capacity)[0] for d in range(devices)]
    rows_NK = np.stack([of_device.rows_K for of_device in requests])
    together = jax.tree.map(lambda *parts: np.concatenate(parts), *requests)
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    gradients_NKE = normal(devices, SLOTS, EMBEDDING_WIDTH)
    row_VE = normal(LAYOUT.n_rows, EMBEDDING_WIDTH)
    stored_VD = normal(LAYOUT.n_rows, CONTENT_WIDTH)
    params = {"weight": normal(CONTENT_WIDTH, EMBEDDING_WIDTH), "bias": normal(EMBEDDING_WIDTH)}

    embedder = Embedder(wide, narrow, EMBEDDING_WIDTH, EMBEDDING_WIDTH)
    channel = Channel(embedder, capacity, WIRE, Chunks(16, 8))
    content = ModelServer()

    def exchange(table, features, params, wanted, gradients_KE):
        ids_KE, asked_SC = id_table.pull(table["row"], wanted, capacity, WIRE)
        later = after(wanted, ids_KE)
        vectors_KE, kept = content.serve(channel, params, features, later)
        later = after(wanted, vectors_KE)
        g_params = content.push(channel, params, features, later, gradients_KE, kept)
        g_params = lax.psum(g_params, BOTH)
        later = after(wanted, *g_params.values())
        table, updated = id_table.push(
            table, gradients_KE, later, capacity, WIRE, count_and_add, wanted_SC=asked_SC
        )
        return ids_KE, vectors_KE, table, g_params, updated, kept.embedded

    sharded = jax.jit(
        jax.shard_map(
            exchange,
            mesh=mesh,
            in_specs=(TABLE_SPEC, TABLE_SPEC, REPLICATED_SPEC, BATCH_SPEC, BATCH_SPEC),
            out_specs=(
                BATCH_SPEC,
                BATCH_SPEC,
                TABLE_SPEC,
                REPLICATED_SPEC,
                BATCH_SPEC,
                BATCH_SPEC,
            ),
            check_vma=False,
        )
    )
    table = {"row": row_VE, "updates": np.zeros((LAYOUT.n_rows, 1), np.int32)}
    ids_KE, vectors_KE, table, g_params, updated_N, embedded_N = sharded(
        jax.device_put(table, table_sharding(mesh)),
        FeatureTable(jax.device_put(stored_VD, table_sharding(mesh)), None),
        params,
        jax.device_put(together, batch_sharding(mesh)),
        jax.device_put(gradients_NKE.reshape(-1, EMBEDDING_WIDTH), batch_sharding(mesh)),
    )
    per_device = (devices, SLOTS, EMBEDDING_WIDTH)
    return Exchanged(
        MeshShape(worker, server),
        rows_NK,
        gradients_NKE,
        row_VE,
        stored_VD,
        params,
        np.asarray(ids_KE).reshape(per_device),
        np.asarray(vectors_KE).reshape(per_device),
        table,
        {name: np.asarray(g) for name, g in g_params.items()},
        np.asarray(updated_N),
        np.asarray(embedded_N),
    )


def test_the_requests_are_skewed(exchanged):
    if len(exchanged.rows_NK) == 1:
        return
    assert not exchanged.wanted_NK[-1].any()
    _, counts = np.unique(exchanged.rows_NK[exchanged.wanted_NK], return_counts=True)
    assert counts.min() == 1
    assert len(exchanged.rows_NK) == 1 or counts.max() >= 5


@pytest.mark.parametrize("servers", [1, 2, 4, 8])
def test_small_capacities_need_many_rounds(servers):
    rounds = [
        int(plan(requested_keys(0, 8), LAYOUT, capacity_for(per_server, servers))[0].rounds[0])
        for per_server in CAPACITIES
    ]
    assert rounds[0] > rounds[1] > rounds[2] == 1


def test_every_device_gets_the_id_row_of_every_key(exchanged):
    wanted_NK = exchanged.wanted_NK
    expected = exchanged.row_VE[exchanged.rows_NK[wanted_NK]]
    np.testing.assert_array_equal(exchanged.ids_NKE[wanted_NK], expected)
    assert not exchanged.ids_NKE[~wanted_NK].any()


def test_every_device_gets_the_vector_of_every_content_row(exchanged):
    wanted_NK = exchanged.wanted_NK
    content_XD = exchanged.stored_VD[exchanged.rows_NK[wanted_NK]].astype(np.float64)
    expected = np.tanh(content_XD @ exchanged.params["weight"]) + exchanged.params["bias"]
    np.testing.assert_allclose(exchanged.vectors_NKE[wanted_NK], expected, rtol=1e-5, atol=1e-5)
    assert not exchanged.vectors_NKE[~wanted_NK].any()


def test_gradients_of_all_devices_are_summed_in_each_row(exchanged):
    wanted_NK = exchanged.wanted_NK
    expected_VE = exchanged.row_VE.astype(np.float64)
    np.add.at(expected_VE, exchanged.rows_NK[wanted_NK], exchanged.gradients_NKE[wanted_NK])
    np.testing.assert_allclose(exchanged.table["row"], expected_VE, rtol=1e-5, atol=1e-5)


def test_a_row_is_updated_once_and_others_not_at_all(exchanged):
    touched_V = np.zeros(LAYOUT.n_rows, bool)
    touched_V[exchanged.rows_NK[exchanged.wanted_NK]] = True
    np.testing.assert_array_equal(np.asarray(exchanged.table["updates"])[:, 0], touched_V)
    rows = np.asarray(exchanged.table["row"])[~touched_V]
    np.testing.assert_array_equal(rows, exchanged.row_VE[~touched_V])


def test_the_rows_that_each_server_handled_are_counted(exchanged):
    """Embedded: distinct rows of the requesters in its row of the mesh. Updated: of all of them."""
    shape, per_server = exchanged.shape, LAYOUT.rows_per_server(exchanged.shape.server)
    rows_WSK = exchanged.rows_NK.reshape(shape.worker, shape.server, -1)
    of_server = lambda rows: [  # noqa: E731
        np.count_nonzero(np.unique(rows[rows != UNUSED]) // per_server == s)
        for s in range(shape.server)
    ]
    embedded = [count for rows_SK in rows_WSK for count in of_server(rows_SK)]
    assert exchanged.embedded_N.tolist() == embedded
    assert exchanged.updated_N.tolist() == of_server(rows_WSK) * shape.worker


def test_replicas_of_a_shard_are_equal_bit_for_bit(exchanged):
    for array in exchanged.table.values():
        first: dict[Any, bytes] = {}
        for shard in array.addressable_shards:
            bits = np.asarray(shard.data).tobytes()
            assert first.setdefault(str(shard.index), bits) == bits


def test_the_embedding_model_gets_the_sum_of_all_gradients(exchanged):
    """A row wanted by many devices counts once for each of them; unused places count nothing."""
    wanted_NK = exchanged.wanted_NK
    content_XD = exchanged.stored_VD[exchanged.rows_NK[wanted_NK]].astype(np.float64)
    gradients_XE = exchanged.gradients_NKE[wanted_NK].astype(np.float64)
    slope_XE = 1 - np.tanh(content_XD @ exchanged.params["weight"]) ** 2
    expected = {
        "weight": content_XD.T @ (gradients_XE * slope_XE),
        "bias": gradients_XE.sum(axis=0),
    }
    for name, g in exchanged.g_params.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-4, atol=1e-4)
