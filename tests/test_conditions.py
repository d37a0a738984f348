"""The test session runs under the conditions that the other tests rely on."""

import jax
import jax.numpy as jnp
import pytest


def test_eight_devices() -> None:
    assert jax.default_backend() == "cpu"
    assert jax.device_count() == 8


def test_mixed_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="numpy_dtype_promotion=strict"):
        _ = jnp.zeros(3, jnp.int32) + jnp.zeros(3, jnp.float32)


def test_mixed_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="rank_promotion"):
        _ = jnp.zeros((2, 3)) + jnp.zeros(3)


def test_matmuls_ask_for_full_precision() -> None:
    """Read from the program: on the CPU the result would not show it."""
    square = jnp.eye(4)
    assert "HIGHEST" in str(jax.make_jaxpr(jnp.matmul)(square, square))


def test_annotations_are_checked() -> None:
    from dicm_jax.data.schema import IdField

    with pytest.raises(TypeError, match="name"):
        IdField(name=3, vocabulary="colour", level="item")  # pyright: ignore[reportArgumentType]
