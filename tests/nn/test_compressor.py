"""The embedding model of the servers against NumPy, whole and a chunk of rows at a time.

Shape legend
    N   rows    D   content width    E   embedding width    K   slots of a list of unique rows
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dicm_jax.ams.content import ModelServer
from dicm_jax.ams.embedding import Chunks, Embedder
from dicm_jax.ams.feature_table import ContentRows, FeatureTable
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import BATCH_SPEC, REPLICATED_SPEC, TABLE_SPEC, MeshShape, make_mesh
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.ams.strategy import Channel
from dicm_jax.ams.wire import WIRES
from dicm_jax.nn.compressor import Compressor, start_from_directions
from tests import numpy_model

N, D, E = 23, 37, 5
WIDTHS = (11, 6, E)


def split(**options: Any) -> tuple[Callable[[Any, ContentRows], jax.Array], Any]:
    """A compressor as a pure function and its parameters, biases and slopes drawn at random."""
    options = {"compute_dtype": "float32", "rngs": nnx.Rngs(0)} | options
    graph, params = nnx.split(Compressor(D, WIDTHS, **options), nnx.Param)
    params = numpy_model.moved(nnx.to_pure_dict(params), by=0.1)
    return lambda params, rows: nnx.merge(graph, params)(rows), params


@pytest.fixture(scope="module")
def rows_ND() -> jax.Array:
    return jax.random.normal(jax.random.key(2), (N, D))


@pytest.mark.parametrize("output_norm", ["none", "rms"])
def test_vectors_equal_numpy(rows_ND, output_norm):
    embed, params = split(output_norm=output_norm)
    expected = numpy_model.compress(
        numpy_model.in_float64(params), np.asarray(rows_ND, np.float64), output_norm
    )
    vectors_NE = embed(params, ContentRows(rows_ND, None))
    np.testing.assert_allclose(vectors_NE, expected, rtol=1e-5, atol=1e-5)


def test_scaled_rows_equal_the_rows_they_stand_for():
    embed, params = split()
    rng = np.random.default_rng(0)
    integers_ND = rng.integers(-127, 128, (N, D), dtype=np.int8)
    scale_N = rng.uniform(0.01, 0.03, N).astype(np.float32)
    vectors_NE = embed(params, ContentRows(jnp.asarray(integers_ND), jnp.asarray(scale_N)))
    expected = numpy_model.compress(
        numpy_model.in_float64(params), integers_ND * scale_N[:, None].astype(np.float64)
    )
    np.testing.assert_allclose(vectors_NE, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_near_float32(rows_ND):
    embed, params = split()
    embed_narrow, _ = split(compute_dtype="bfloat16")
    exact = embed(params, ContentRows(rows_ND, None))
    narrow = embed_narrow(params, ContentRows(rows_ND, None))
    assert narrow.dtype == jnp.float32
    difference = np.linalg.norm(narrow - exact) / np.linalg.norm(exact)
    assert 0 < difference < 0.01


def test_normalised_vectors_have_a_mean_square_of_one(rows_ND):
    embed, params = split(output_norm="rms")
    vectors_NE = embed(params, ContentRows(rows_ND, None))
    np.testing.assert_allclose(np.mean(np.square(vectors_NE), axis=1), 1, rtol=1e-3)


def test_directions_give_the_coordinates_along_them(rows_ND):
    compressor = Compressor(D, WIDTHS, compute_dtype="float32", rngs=nnx.Rngs(0))
    directions_DH = jax.random.normal(jax.random.key(3), (D, WIDTHS[0]))
    start_from_directions(compressor, directions_DH)
    expected = np.asarray(rows_ND, np.float64) @ np.asarray(directions_DH)[:, :E]
    np.testing.assert_allclose(
        compressor(ContentRows(rows_ND, None)), expected, rtol=1e-5, atol=1e-5
    )


def cut(options: dict[str, Any]) -> tuple[Embedder, Any]:
    """A compressor as the operator takes it, and its parameters."""
    graph, params = nnx.split(Compressor(D, WIDTHS, rngs=nnx.Rngs(0), **options), nnx.Param)
    params = numpy_model.moved(nnx.to_pure_dict(params), by=0.1)
    return Embedder(
        lambda params, rows: nnx.merge(graph, params).wide(rows),
        lambda params, hidden_NH: nnx.merge(graph, params).narrow(hidden_NH),
        WIDTHS[0],
        E,
    ), params


@pytest.mark.parametrize("chunks", [(1, 1), (4, 2), (1024, 1024), (8, 1)], ids=str)
def test_a_chunk_at_a_time_equals_all_at_once(rows_ND, chunks):
    """Vectors and gradients; the rows do not fill the last chunk, nor the list the capacity."""
    embedder, params = cut({"compute_dtype": "float32"})
    layout, slots = RowLayout(N), N - 2
    stored_VD = jnp.asarray(layout.arrange(np.asarray(rows_ND)))
    rows_K = np.full(slots, UNUSED, np.int32)
    wanted = np.sort(np.random.default_rng(0).choice(N, slots - 5, replace=False))
    rows_K[: slots - 5] = layout.row(wanted)
    gradients_KE = jax.random.normal(jax.random.key(4), (slots, E))
    capacity = Capacity(slots, slots, 1, layout.n_rows)
    channel = Channel(embedder, capacity, WIRES["float32"], Chunks(*chunks))
    request = Request(rows_K, np.ones(1, np.int32), np.array([slots - 5], np.int32))

    def both(table, params, request, gradients_KE):
        strategy = ModelServer()
        vectors_KE, kept = strategy.serve(channel, params, table, request)
        g_params = strategy.push(channel, params, table, request, gradients_KE, kept)
        return vectors_KE, g_params

    vectors_KE, g_params = jax.jit(
        jax.shard_map(
            both,
            mesh=make_mesh(MeshShape(1, 1)),
            in_specs=(TABLE_SPEC, REPLICATED_SPEC, BATCH_SPEC, BATCH_SPEC),
            out_specs=(BATCH_SPEC, REPLICATED_SPEC),
            check_vma=False,
        )
    )(FeatureTable(stored_VD, None), params, request, gradients_KE)

    def at_once(params):
        rows = ContentRows(rows_ND[wanted], None)
        return embedder.narrow(params, embedder.wide(params, rows))

    expected, pull_back = jax.vjp(at_once, params)
    np.testing.assert_allclose(vectors_KE[: slots - 5], expected, rtol=1e-5, atol=1e-6)
    assert not np.asarray(vectors_KE[slots - 5 :]).any()
    # The gradients at the list's unused end are not zero: none of them may count.
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-4),
        g_params,
        pull_back(gradients_KE[: slots - 5])[0],
    )


def test_wide_then_narrow_is_the_whole(rows_ND):
    compressor = Compressor(D, WIDTHS, compute_dtype="float32", rngs=nnx.Rngs(0))
    rows = ContentRows(rows_ND, None)
    hidden_NH = compressor.wide(rows)
    assert hidden_NH.shape == (N, WIDTHS[0])
    np.testing.assert_array_equal(compressor.narrow(hidden_NH), compressor(rows))
