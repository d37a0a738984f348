"""The wide product and its gradient against a plain product in float64.

Shape legend
    N   rows    D   content width    H   first hidden width
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.nn.frozen_dot import frozen_dot

N, D, H = 29, 37, 11


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"rows_ND": (N, D), "weights_DH": (D, H), "gradient_NH": (N, H)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def product_and_gradients(arrays, dtype):
    rows_ND = jnp.asarray(arrays["rows_ND"]).astype(dtype)
    product_NH, pull_back = jax.vjp(frozen_dot, rows_ND, jnp.asarray(arrays["weights_DH"]))
    return product_NH, *pull_back(jnp.asarray(arrays["gradient_NH"]))


def cosine(a, b) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_float32_equals_a_plain_product(arrays):
    product_NH, _, g_weights_DH = product_and_gradients(arrays, jnp.float32)
    rows = arrays["rows_ND"].astype(np.float64)
    np.testing.assert_allclose(product_NH, rows @ arrays["weights_DH"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(g_weights_DH, rows.T @ arrays["gradient_NH"], rtol=1e-5, atol=1e-5)


def test_bfloat16_points_the_same_way(arrays):
    product_NH, _, g_weights_DH = product_and_gradients(arrays, jnp.bfloat16)
    rows = arrays["rows_ND"].astype(np.float64)
    assert product_NH.dtype == g_weights_DH.dtype == jnp.float32
    assert cosine(product_NH, rows @ arrays["weights_DH"]) > 0.9999
    assert cosine(g_weights_DH, rows.T @ arrays["gradient_NH"]) > 0.9999
    assert g_weights_DH.shape == (D, H)


def test_bfloat16_is_rounded_before_the_product_and_not_after(arrays):
    """Integers below 256 are exact in bfloat16; their sums are not, but are in float32."""
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (N, D))
    weights = rng.integers(0, 256, (D, H))
    exact = {"rows_ND": rows, "weights_DH": weights, "gradient_NH": rng.integers(0, 256, (N, H))}
    exact = {name: array.astype(np.float32) for name, array in exact.items()}
    product_NH, _, g_weights_DH = product_and_gradients(exact, jnp.bfloat16)
    np.testing.assert_array_equal(product_NH, rows @ weights)
    np.testing.assert_array_equal(g_weights_DH, rows.T @ exact["gradient_NH"].astype(int))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_get_no_gradient(arrays, dtype):
    _, g_rows_ND, _ = product_and_gradients(arrays, dtype)
    assert g_rows_ND.shape == (N, D)
    assert not np.asarray(g_rows_ND.astype(jnp.float32)).any()
