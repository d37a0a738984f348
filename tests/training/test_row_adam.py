"""Row-sparse Adam, through the push of an ID table, against NumPy and Optax.

Shape legend
    V   rows of a table    E   embedding width    K   slots of a list of unique rows
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dicm_jax.ams import id_table
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.mesh import BATCH_SPEC, REPLICATED_SPEC, TABLE_SPEC, MeshShape, make_mesh
from dicm_jax.ams.plan import UNUSED, Capacity, Request
from dicm_jax.ams.wire import WIRES
from dicm_jax.training.row_adam import RowAdam

E, SLOTS, STEPS, RATE = 5, 40, 12, 0.03
LAYOUT = RowLayout(2000)
ADAM = RowAdam(b1=0.8, b2=0.95, eps=1e-6)
ALWAYS = np.arange(0, 200, 7, dtype=np.int32)
"""Rows that every step touches."""


def touched_rows(step: int) -> np.ndarray:
    """The rows of every step and some that come and go."""
    others = np.random.default_rng(step).choice(np.arange(1000, 1020), 8, replace=False)
    return np.sort(np.concatenate([ALWAYS, others])).astype(np.int32)


def gradients(step: int) -> np.ndarray:
    normal = np.random.default_rng((1, step)).normal(size=(SLOTS, E))
    return (normal * 10.0 ** np.random.default_rng(2).integers(-3, 3, (1, E))).astype(np.float32)


def initial_rows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(LAYOUT.n_rows, E)).astype(np.float32)


@pytest.fixture(scope="module")
def after() -> dict[str, np.ndarray]:
    """The table after all steps on two servers, of whose workers one pushes everything."""
    mesh = make_mesh(MeshShape(1, 2))
    capacity = Capacity(SLOTS, SLOTS, 2, LAYOUT.rows_per_server(2))

    def push(table: Any, request: Request, gradients_KE: Any, step: Any) -> Any:
        update = ADAM.at(step, jnp.float32(RATE))
        wire = WIRES["float32"]
        table, _ = id_table.push(table, gradients_KE, request, capacity, wire, update)
        return table

    sharded = jax.jit(
        jax.shard_map(
            push,
            mesh=mesh,
            in_specs=(TABLE_SPEC, BATCH_SPEC, BATCH_SPEC, REPLICATED_SPEC),
            out_specs=TABLE_SPEC,
            check_vma=False,
        )
    )
    table = ADAM.init(jnp.asarray(initial_rows()))
    for step in range(STEPS):
        rows_NK = np.full((2, SLOTS), UNUSED, np.int32)
        rows_NK[0, : len(touched_rows(step))] = touched_rows(step)
        places = np.array([len(touched_rows(step)), 0], np.int32)
        request = Request(rows_NK.reshape(-1), np.ones(2, np.int32), places)
        gradients_KE = np.concatenate([gradients(step), np.zeros_like(gradients(step))])
        table = sharded(table, request, gradients_KE, jnp.int32(step))
    return {name: np.asarray(array) for name, array in table.items()}


def test_equals_numpy_with_rows_that_come_and_go(after):
    row_VE = initial_rows().astype(np.float64)
    mu_VE, nu_VE = np.zeros_like(row_VE), np.zeros_like(row_VE)
    for step in range(STEPS):
        for row, g_E in zip(touched_rows(step), gradients(step).astype(np.float64), strict=False):
            mu_VE[row] = ADAM.b1 * mu_VE[row] + (1 - ADAM.b1) * g_E
            nu_VE[row] = ADAM.b2 * nu_VE[row] + (1 - ADAM.b2) * g_E**2
            m_E = mu_VE[row] / (1 - ADAM.b1 ** (step + 1))
            v_E = nu_VE[row] / (1 - ADAM.b2 ** (step + 1))
            row_VE[row] -= RATE * m_E / (np.sqrt(v_E) + ADAM.eps)
    np.testing.assert_allclose(after["row"], row_VE, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after["mu"], mu_VE, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(after["nu"], nu_VE, rtol=1e-4, atol=1e-12)


def test_rows_never_touched_stay_bit_for_bit(after):
    met = np.unique(np.concatenate([touched_rows(step) for step in range(STEPS)]))
    others = np.setdiff1d(np.arange(LAYOUT.n_rows), met)
    np.testing.assert_array_equal(after["row"][others], initial_rows()[others])
    assert not after["mu"][others].any()
    assert not after["nu"][others].any()
    assert (after["row"][met] != initial_rows()[met]).all()


def test_rows_touched_every_step_move_as_in_optax(after):
    optimizer = optax.adam(RATE, b1=ADAM.b1, b2=ADAM.b2, eps=ADAM.eps)
    rows: Any = jnp.asarray(initial_rows()[ALWAYS])
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(rows)
        for step in range(STEPS):
            always = np.isin(touched_rows(step), ALWAYS)
            g = jnp.asarray(gradients(step)[: len(always)][always])
            updates, state = optimizer.update(g, state, rows)
            rows = optax.apply_updates(rows, updates)
    np.testing.assert_allclose(after["row"][ALWAYS], np.asarray(rows), rtol=1e-5, atol=1e-6)
