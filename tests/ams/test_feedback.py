"""Error feedback: what rounding takes now is sent later, so that sums come out right.

Gradients are multiples of 2^-10, so that float32 adds and subtracts them without rounding of its
own and sums can be compared bit for bit.

Shape legend
    K   slots of a list of rows    R   places for errors    E   width    T   steps    V   rows
"""

import functools

import jax
import numpy as np
import pytest

from dicm_jax.ams.feedback import Errors, correct, no_errors
from dicm_jax.ams.plan import UNUSED
from dicm_jax.ams.wire import WIRES, rounded

SLOTS, E, STEPS, ROWS = 16, 5, 200, 40
NARROW = ["bfloat16", "int8"]


@functools.partial(jax.jit, static_argnums=3)
def jitted(errors, rows_K, gradients_KE, wire):
    return correct(errors, rows_K, gradients_KE, WIRES[wire])


@functools.partial(jax.jit, static_argnums=0)
def _read_back(wire, x):
    return rounded(WIRES[wire], x)


def read_back(wire: str, x: np.ndarray) -> np.ndarray:
    """What the other end of a wire reads."""
    return np.asarray(_read_back(wire, x))


def lists(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ascending lists of popular and other rows, and gradients, for every step."""
    rng = np.random.default_rng(seed)
    rows_TK = np.full((STEPS, SLOTS), UNUSED, np.int32)
    chance_V = np.arange(1, ROWS + 1) ** -1.0
    for rows_K in rows_TK:
        count = rng.integers(0, SLOTS)
        rows = rng.choice(ROWS, count, replace=False, p=chance_V / chance_V.sum())
        rows_K[:count] = np.sort(rows) * 7 + 1
    gradients_TKE = rng.integers(-5000, 5000, (STEPS, SLOTS, E)) * 2.0**-10
    gradients_TKE[rows_TK == UNUSED] = 0
    return rows_TK, gradients_TKE.astype(np.float32)


def sums_by_row(rows_TK: np.ndarray, x_TKE: np.ndarray) -> dict[int, np.ndarray]:
    totals = {int(row): np.zeros(E) for row in np.unique(rows_TK[rows_TK != UNUSED])}
    for t, k in np.argwhere(rows_TK != UNUSED):
        totals[int(rows_TK[t, k])] += x_TKE[t, k].astype(np.float64)
    return totals


def sent_over_all_steps(places: int, wire: str) -> tuple[np.ndarray, Errors]:
    rows_TK, gradients_TKE = lists()
    errors, sent = no_errors(places, E), []
    for rows_K, gradients_KE in zip(rows_TK, gradients_TKE, strict=True):
        sent_KE, errors = jitted(errors, rows_K, gradients_KE, wire)
        sent.append(np.asarray(sent_KE))
    return np.stack(sent), jax.tree.map(np.asarray, errors)


@pytest.mark.parametrize("wire", NARROW)
def test_what_was_sent_and_what_is_owed_is_the_sum_of_the_gradients(wire):
    rows_TK, gradients_TKE = lists()
    sent_TKE, errors = sent_over_all_steps(7 * ROWS + 8, wire)
    wanted, sent = sums_by_row(rows_TK, gradients_TKE), sums_by_row(rows_TK, sent_TKE)
    owed = dict(zip(errors.row_R.tolist(), errors.error_RE.astype(np.float64), strict=True))
    assert any(owed[row].any() for row in wanted)
    for row, total_E in wanted.items():
        np.testing.assert_array_equal(sent[row] + owed[row], total_E)
    rounding = np.abs(sent_TKE - gradients_TKE).sum()
    assert rounding > 1, "the wire rounded nothing: nothing was shown"


@pytest.mark.parametrize("wire", NARROW)
def test_what_is_sent_passes_the_wire_unchanged(wire):
    sent_TKE, _ = sent_over_all_steps(ROWS, wire)
    np.testing.assert_array_equal(read_back(wire, sent_TKE), sent_TKE)


@pytest.mark.parametrize("places", [1, 3, 16])
@pytest.mark.parametrize("wire", NARROW)
def test_rows_that_share_a_place_lose_at_most_half_a_step_each_time(places, wire):
    """Against a plain dictionary: the row sent last has the place, others begin anew."""
    rows_TK, gradients_TKE = lists()
    sent_TKE, errors = sent_over_all_steps(places, wire)
    held: dict[int, tuple[int, np.ndarray]] = {}
    lost = 0
    for rows_K, gradients_KE, sent_KE in zip(rows_TK, gradients_TKE, sent_TKE, strict=True):
        left = {}
        for row, g_E, sent_E in zip(rows_K.tolist(), gradients_KE, sent_KE, strict=True):
            if row == UNUSED:
                assert not sent_E.any()
                continue
            owner, error_E = held.get(row % places, (row, np.zeros(E)))
            wanted_E = g_E.astype(np.float64) + (error_E if owner == row else 0)
            expected_E = read_back(wire, wanted_E.astype(np.float32)[None])[0]
            np.testing.assert_array_equal(sent_E, expected_E)
            left_E = wanted_E - sent_E
            assert (np.abs(left_E) <= np.abs(wanted_E).max() / 127).all()
            lost += owner != row or row % places in left
            left[row % places] = (row, left_E)
        held |= left
    assert lost > 100
    for place, (row, error_E) in held.items():
        assert errors.row_R[place] == row
        np.testing.assert_array_equal(errors.error_RE[place], error_E)


def test_errors_of_a_repeated_gradient_stay_bounded_and_without_feedback_grow():
    """Elements of .3 of a step of int8 are always rounded away; with feedback they get through."""
    gradient_1E = np.array([[100.0, 0.3, -0.3, 0.3, 0.0]], np.float32)
    rows_1 = np.zeros(1, np.int32)
    errors, with_E, without_E = no_errors(1, E), np.zeros(E), np.zeros(E)
    after = {}
    for step in range(1, 401):
        sent_1E, errors = jitted(errors, rows_1, gradient_1E, "int8")
        with_E += np.asarray(sent_1E)[0].astype(np.float64) - gradient_1E[0]
        without_E += read_back("int8", gradient_1E)[0] - gradient_1E[0]
        after[step] = np.abs(without_E).max()
        assert np.abs(with_E).max() <= 0.5 + 1e-3
    assert after[400] == pytest.approx(4 * after[100], rel=1e-6)
    assert after[400] > 100


def test_unused_slots_touch_no_place():
    rows_K = np.full(SLOTS, UNUSED, np.int32)
    before = Errors(np.array([3, 8, UNUSED], np.int32), np.ones((3, E), np.float32))
    _, errors = jitted(before, rows_K, np.ones((SLOTS, E), np.float32), "int8")
    jax.tree.map(np.testing.assert_array_equal, errors, before)
