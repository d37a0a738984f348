"""Content rows at rest: standardised as float64 says, and as near to it as the format allows.

Shape legend
    N   rows as the source gives them    D   content width    U   rows asked for
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.ams.feature_table import FeatureTable, build, gather, statistics
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import MeshShape, make_mesh

N = 5000  # more than one chunk of the host's passes
D = 7
CONSTANT = 3  # a dim that never varies


@pytest.fixture(scope="module")
def rows_ND() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, D)) * np.array([1, 30, 0.01, 1, 2, 1, 5]) + np.arange(D) * 10
    rows[:, CONSTANT] = 1000.1
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def standard_ND(rows_ND) -> np.ndarray:
    """Standardised in float64 throughout."""
    rows = rows_ND.astype(np.float64)
    deviation_D = rows.std(axis=0)
    deviation_D[CONSTANT] = 1.0
    return (rows - rows.mean(axis=0)) / deviation_D


def table_rows(rows_ND: np.ndarray, scale_N, storage, mesh_shape=(1, 2)) -> FeatureTable:
    stats = statistics(rows_ND, scale_N)
    return build(rows_ND, scale_N, stats, storage, make_mesh(MeshShape(*mesh_shape)))


def features(table: FeatureTable, keys: np.ndarray) -> np.ndarray:
    """The features of keys as a compressor sees them, float64."""
    rows = jax.jit(gather)(table, jnp.asarray(RowLayout(N).row(keys)))
    value_UD = np.asarray(rows.value_UD.astype(jnp.float32), np.float64)
    return value_UD if rows.scale_U is None else value_UD * np.asarray(rows.scale_U)[:, None]


def test_statistics_equal_float64(rows_ND):
    stats = statistics(rows_ND, None)
    rows = rows_ND.astype(np.float64)
    np.testing.assert_allclose(stats.mean_D, rows.mean(axis=0), rtol=1e-6, atol=1e-6)
    varying = np.arange(D) != CONSTANT
    expected_D = rows.std(axis=0)[varying]
    np.testing.assert_allclose(stats.deviation_D[varying], expected_D, rtol=1e-5)
    assert stats.mean_D.dtype == stats.deviation_D.dtype == np.float32


def test_a_constant_dim_becomes_zero(rows_ND):
    assert statistics(rows_ND, None).deviation_D[CONSTANT] == 1
    for storage in ("float32", "bfloat16", "int8"):
        values_UD = features(table_rows(rows_ND, None, storage), np.arange(N))
        assert not values_UD[:, CONSTANT].any()


def test_float32_rows_are_the_standardised_rows(rows_ND, standard_ND):
    values_UD = features(table_rows(rows_ND, None, "float32"), np.arange(N))
    np.testing.assert_allclose(values_UD, standard_ND, rtol=1e-4, atol=2e-4)


def test_bfloat16_rows_are_off_by_half_a_step_at_most(rows_ND):
    exact = features(table_rows(rows_ND, None, "float32"), np.arange(N))
    values_UD = features(table_rows(rows_ND, None, "bfloat16"), np.arange(N))
    assert (np.abs(values_UD - exact) <= np.abs(exact) * 2.0**-8).all()
    assert np.abs(values_UD - exact).max() > 0


def test_int8_rows_are_off_by_half_a_step_of_their_own_scale_at_most(rows_ND):
    exact = features(table_rows(rows_ND, None, "float32"), np.arange(N))
    values_UD = features(table_rows(rows_ND, None, "int8"), np.arange(N))
    step_N = np.abs(exact).max(axis=1) / 127
    assert (np.abs(values_UD - exact) <= 0.5001 * step_N[:, None]).all()
    np.testing.assert_allclose(np.abs(values_UD).max(axis=1), np.abs(exact).max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_rows_at_rest_have_the_bytes_of_their_format(rows_ND, storage):
    stored = table_rows(rows_ND, None, storage).stored_VD
    assert stored.dtype.itemsize == {"float32": 4, "bfloat16": 2, "int8": 1}[storage]
    assert stored.shape == (RowLayout(N).n_rows, D)


def test_integer_rows_with_factors_are_the_features_they_stand_for(rows_ND):
    rng = np.random.default_rng(1)
    integers_ND = rng.integers(0, 256, (N, D), dtype=np.uint8)
    scale_N = rng.uniform(0.01, 3.0, N).astype(np.float32)
    wide_ND = integers_ND.astype(np.float64) * scale_N[:, None]
    expected_ND = (wide_ND - wide_ND.mean(axis=0)) / wide_ND.std(axis=0)
    values_UD = features(table_rows(integers_ND, scale_N, "float32"), np.arange(N))
    np.testing.assert_allclose(values_UD, expected_ND, rtol=1e-4, atol=1e-4)


def test_a_row_of_zeros_at_rest_stays_finite():
    same_ND = np.ones((N, D), np.float32)
    values_UD = features(table_rows(same_ND, None, "int8"), np.arange(N))
    np.testing.assert_array_equal(values_UD, 0)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_rows_past_the_table_are_zeros(rows_ND, storage):
    table = table_rows(rows_ND, None, storage)
    n_rows = RowLayout(N).n_rows
    rows = jax.jit(gather)(table, jnp.array([0, n_rows, n_rows + 5], jnp.int32))
    value_UD = np.asarray(rows.value_UD.astype(jnp.float32))
    assert value_UD[0].any()
    assert not value_UD[1:].any()
    if rows.scale_U is not None:
        assert not np.asarray(rows.scale_U)[1:].any()


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_the_table_is_the_same_for_any_mesh(rows_ND, storage):
    one = table_rows(rows_ND, None, storage, (1, 1))
    for mesh_shape in [(1, 8), (4, 2)]:
        other = table_rows(rows_ND, None, storage, mesh_shape)
        jax.tree.map(np.testing.assert_array_equal, one, other)
        shards = {str(shard.index) for shard in other.stored_VD.addressable_shards}
        assert len(shards) == mesh_shape[1]
