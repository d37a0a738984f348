"""The host's plan: slots lead back to the keys' rows, and no fewer rounds would do.

Shape legend
    K   slots of a list of unique rows
"""

import numpy as np
import pytest

from dicm_jax.ams.keys import NO_ROW, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.plan import UNUSED, Capacity, plan, rounds_needed


def random_case(seed: int) -> tuple[np.ndarray, Capacity]:
    """Keys with popular ones, keys of one virtual shard, keys without a row and padding."""
    rng = np.random.default_rng(seed)
    n_keys = int(rng.choice([1, 3, 900, 1024, 3000, 50_000]))
    size = int(rng.integers(1, 300))
    uniform = rng.integers(0, n_keys, size)
    popular = np.floor(n_keys * rng.random(size) ** 8).astype(int)
    neighbors = rng.integers(0, max(1, n_keys // 1024), size) * 1024
    keys = np.choose(
        rng.choice(3, size, p=rng.dirichlet(np.ones(3))), [uniform, popular, neighbors]
    )
    special = rng.random(size)
    keys[special < 0.1] = NO_ROW
    keys[special > 0.85] = PADDING
    per_server = int(rng.choice([1, 2, 7, 40, size]))
    layout = RowLayout(n_keys)
    return keys, Capacity(size, per_server, int(rng.choice([1, 2, 4, 8])), layout)


def most_in_a_window(rows: np.ndarray, capacity: Capacity, rounds: int) -> int:
    """Counted row by row: a window is a run of ``2^p / rounds`` rows of one server."""
    most = 0
    width = 1
    while width < capacity.rows_per_server:
        width *= 2
    for server in range(capacity.servers):
        own = [
            int(r) % capacity.rows_per_server
            for r in rows
            if r // capacity.rows_per_server == server
        ]
        windows = [row * rounds // width for row in own]
        most = max([most, *(windows.count(window) for window in set(windows))])
    return most


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_slots_lead_to_the_rows_of_the_keys(first_seed):
    for seed in range(first_seed, first_seed + 50):
        keys, capacity = random_case(seed)
        rows_K, slots, _ = plan(keys, capacity)
        real = keys >= 0
        assert rows_K.shape == (capacity.unique,)
        assert rows_K.dtype == slots.dtype == np.int32
        np.testing.assert_array_equal(rows_K[slots[real]], capacity.layout.row(keys[real]))
        assert (slots[keys == NO_ROW] == capacity.unique).all()
        assert (slots[keys == PADDING] == capacity.unique + 1).all()
        used = len(np.unique(keys[real]))
        assert (np.diff(rows_K[:used]) > 0).all()
        assert (rows_K[used:] == UNUSED).all()


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_rounds_are_enough_and_half_of_them_are_not(first_seed):
    overflown = 0
    for seed in range(first_seed, first_seed + 50):
        keys, capacity = random_case(seed)
        rows_K, _, rounds = plan(keys, capacity)
        rows = rows_K[rows_K != UNUSED]
        assert most_in_a_window(rows, capacity, rounds) <= capacity.per_server
        if rounds > 1:
            overflown += 1
            assert rounds.bit_count() == 1
            assert most_in_a_window(rows, capacity, rounds // 2) > capacity.per_server
            assert not capacity.single_round
        # Another device may need more rounds: what fits must still fit.
        assert most_in_a_window(rows, capacity, 2 * rounds) <= capacity.per_server
        assert most_in_a_window(rows, capacity, 8 * rounds) <= capacity.per_server
    assert overflown > 10


def test_windows_of_twice_the_rounds_lie_inside_those_of_once():
    capacity = Capacity(10, 1, 4, RowLayout(5000))
    for rounds in (1, 2, 4, 64):
        assert capacity.window(rounds) == 2 * capacity.window(2 * rounds)
    assert capacity.window(1) >= capacity.rows_per_server


def test_the_most_skewed_request_ends_with_one_row_a_window():
    """All rows of one virtual shard stand side by side on one server."""
    capacity = Capacity(16, 1, 8, RowLayout(16 * 1024))
    rows_K, _, rounds = plan(np.arange(16) * 1024, capacity)
    assert np.diff(rows_K).tolist() == [1] * 15
    assert capacity.window(rounds) == 1


def test_no_rows_need_one_round():
    capacity = Capacity(4, 1, 8, RowLayout(2000))
    rows_K, slots, rounds = plan(np.array([PADDING, NO_ROW]), capacity)
    assert rounds == rounds_needed(np.empty(0, np.int32), capacity) == 1
    assert (rows_K == UNUSED).all()
    assert slots.tolist() == [5, 4]


def test_slots_have_the_arrangement_of_the_keys():
    capacity = Capacity(12, 12, 2, RowLayout(2000))
    keys = np.random.default_rng(0).integers(0, 2000, (2, 3, 2))
    rows_K, slots, _ = plan(keys, capacity)
    assert slots.shape == keys.shape
    np.testing.assert_array_equal(rows_K[slots], capacity.layout.row(keys))
