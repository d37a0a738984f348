"""Wire formats: their size, how much they round, and that they do it once.

Shape legend
    N   vectors    E   width of a vector
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dicm_jax.ams import ledger
from dicm_jax.ams.wire import WIRES, Wire, rounded

E = 12
NARROW = ["bfloat16", "int8"]
TINY = float(np.finfo(np.float32).tiny)
"""The smallest normal float32; what is below may be flushed to zero by the hardware."""


def vectors(seed: int) -> np.ndarray:
    """Of sizes over 60 orders of magnitude, elements of very different size among them."""
    rng = np.random.default_rng(seed)
    size_N1 = 10.0 ** rng.uniform(-30, 30, (500, 1))
    within_NE = np.where(rng.random((500, E)) < 0.3, 10.0 ** rng.uniform(-8, 0, (500, E)), 1.0)
    return (rng.normal(size=(500, E)) * size_N1 * within_NE).astype(np.float32)


def special() -> np.ndarray:
    """Zeros, powers of two, the ends of float32, and vectors of subnormal numbers."""
    ends = [0.0, -0.0, 1.0, -1.0, 127.0, 128.0, 254.0, 2.0**-126, 2.0**127, -(2.0**100)]
    rows = [np.full(E, value) for value in ends]
    rows += [np.arange(E) * scale for scale in (1.0, 2.0**-140, 2.0**-149, 2.0**-120)]
    rows += [np.arange(E) - 127.0, np.arange(E) * 127.0, np.eye(E)[3] * 3e38]
    return np.stack(rows).astype(np.float32)


def read_back(wire: Wire, x_NE: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda x: rounded(wire, x))(x_NE))


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("width", [1, 5, 12, 64])
def test_a_vector_takes_the_bytes_of_the_ledger(name, width):
    written = WIRES[name].write(jnp.ones((3, 2, width)))
    assert written.shape[:2] == (3, 2)
    assert written[0, 0].nbytes == WIRES[name].bytes_per_vector(width)
    assert WIRES[name].bytes_per_vector(width) == ledger.wire_bytes(name, width)


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("x_NE", [vectors(0), vectors(1), special()], ids=["0", "1", "special"])
def test_what_was_read_is_written_as_the_same_bytes(name, x_NE):
    wire = WIRES[name]
    write, read = jax.jit(wire.write), jax.jit(wire.read)
    once = read(write(x_NE))
    np.testing.assert_array_equal(np.asarray(write(once)), np.asarray(write(x_NE)))
    twice = np.asarray(read(write(once)))
    np.testing.assert_array_equal(twice.view(np.int32), np.asarray(once).view(np.int32))


def test_float32_changes_nothing():
    wire = WIRES["float32"]
    assert wire.exact
    np.testing.assert_array_equal(wire.read(wire.write(jnp.asarray(vectors(2)))), vectors(2))


@pytest.mark.parametrize("name", NARROW)
def test_narrow_formats_say_that_they_round(name):
    assert not WIRES[name].exact
    assert (read_back(WIRES[name], vectors(2)) != vectors(2)).any()


@pytest.mark.parametrize("seed", range(3))
def test_bfloat16_is_off_by_half_of_its_last_bit(seed):
    x_NE = vectors(seed).astype(np.float64)
    error_NE = np.abs(read_back(WIRES["bfloat16"], vectors(seed)) - x_NE)
    assert (error_NE <= np.abs(x_NE) * 2.0**-8 + TINY).all()


@pytest.mark.parametrize("seed", range(3))
def test_int8_is_off_by_half_a_step_of_the_largest_element(seed):
    """A step is the least power of two that brings the largest element to 127 or below."""
    x_NE = vectors(seed).astype(np.float64)
    most_N1 = np.abs(x_NE).max(axis=1, keepdims=True)
    step_N1 = np.maximum(2.0 ** np.ceil(np.log2(most_N1 / 127)), 2.0**-126)
    read_NE = read_back(WIRES["int8"], vectors(seed))
    assert (np.abs(read_NE - x_NE) <= step_N1 / 2 * (1 + 1e-6)).all()
    assert (step_N1 / 2 <= most_N1 / 127 + TINY).all()
    np.testing.assert_array_equal(read_NE, np.rint(x_NE / step_N1) * step_N1)


@pytest.mark.parametrize("name", NARROW)
def test_special_values_are_read_to_half_a_step(name):
    x_NE = special().astype(np.float64)
    most_N1 = np.abs(x_NE).max(axis=1, keepdims=True)
    assert (np.abs(read_back(WIRES[name], special()) - x_NE) <= most_N1 / 127 + TINY).all()


@pytest.mark.parametrize("name", WIRES)
def test_zeros_stay_zeros(name):
    assert not read_back(WIRES[name], np.zeros((4, E), np.float32)).any()


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_visible_and_alone(name, bad):
    """In its own vector at least; other vectors are as they would be without it."""
    x_NE = vectors(4)
    x_NE[7, 3] = bad
    read_NE = read_back(WIRES[name], x_NE)
    assert not np.isfinite(read_NE[7, 3])
    others = np.arange(len(x_NE)) != 7
    assert np.isfinite(read_NE[others]).all()
    np.testing.assert_array_equal(read_NE[others], read_back(WIRES[name], vectors(4))[others])


@pytest.mark.parametrize("name", WIRES)
def test_vectors_are_read_as_float32(name):
    assert read_back(WIRES[name], vectors(0)[:3]).dtype == np.float32
    empty = WIRES[name].read(WIRES[name].write(jnp.zeros((0, E))))
    assert empty.shape == (0, E)
