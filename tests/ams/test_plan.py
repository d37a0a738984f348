"""The host's plan: slots lead back to the keys' rows, and no fewer rounds would do.

Shape legend
    K   slots of a list of unique rows
"""

import dataclasses

import numpy as np
import pytest

from dicm_jax.ams.keys import NO_ROW, PADDING
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.plan import UNUSED, Capacity, plan, rounds_needed
from dicm_jax.errors import ConfigError, DataError


def random_case(seed: int) -> tuple[np.ndarray, RowLayout, Capacity]:
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
    return keys, layout, capacity_for(size, per_server, int(rng.choice([1, 2, 4, 8])), layout)


def capacity_for(unique: int, per_server: int, servers: int, layout: RowLayout) -> Capacity:
    return Capacity(unique, per_server, servers, layout.rows_per_server(servers))


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
        keys, layout, capacity = random_case(seed)
        request, slots = plan(keys, layout, capacity)
        rows_K = request.rows_K
        real = keys >= 0
        assert rows_K.shape == (capacity.unique,)
        assert rows_K.dtype == slots.dtype == np.int32
        np.testing.assert_array_equal(rows_K[slots[real]], layout.row(keys[real]))
        assert (slots[keys == NO_ROW] == capacity.unique).all()
        assert (slots[keys == PADDING] == capacity.unique + 1).all()
        used = len(np.unique(keys[real]))
        assert (np.diff(rows_K[:used]) > 0).all()
        assert (rows_K[used:] == UNUSED).all()
        assert request.places.tolist() == [int(real.sum())]


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_without_deduplication_every_place_has_an_entry_of_its_own(first_seed):
    for seed in range(first_seed, first_seed + 50):
        keys, layout, capacity = random_case(seed)
        capacity = dataclasses.replace(capacity, per_server=capacity.unique)
        request, slots = plan(keys, layout, capacity, distinct=False)
        real = keys >= 0
        listed = request.rows_K[request.rows_K != UNUSED]
        assert len(listed) == real.sum()
        assert (np.diff(listed) >= 0).all()
        assert len(np.unique(slots[real])) == real.sum()
        np.testing.assert_array_equal(request.rows_K[slots[real]], layout.row(keys[real]))
        assert request.places.tolist() == [int(real.sum())]
        assert request.rounds.tolist() == [1]


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_rounds_are_enough_and_half_of_them_are_not(first_seed):
    overflown = 0
    for seed in range(first_seed, first_seed + 50):
        keys, layout, capacity = random_case(seed)
        request, _ = plan(keys, layout, capacity)
        rows, rounds = request.rows_K[request.rows_K != UNUSED], int(request.rounds[0])
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
    capacity = capacity_for(10, 1, 4, RowLayout(5000))
    for rounds in (1, 2, 4, 64):
        assert capacity.window(rounds) == 2 * capacity.window(2 * rounds)
    assert capacity.window(1) >= capacity.rows_per_server


def test_the_most_skewed_request_ends_with_one_row_a_window():
    """All rows of one virtual shard stand side by side on one server."""
    layout = RowLayout(16 * 1024)
    capacity = capacity_for(16, 1, 8, layout)
    request, _ = plan(np.arange(16) * 1024, layout, capacity)
    assert np.diff(request.rows_K).tolist() == [1] * 15
    assert capacity.window(int(request.rounds[0])) == 1


def test_no_rows_need_one_round():
    layout = RowLayout(2000)
    capacity = capacity_for(4, 1, 8, layout)
    request, slots = plan(np.array([PADDING, NO_ROW]), layout, capacity)
    assert int(request.rounds[0]) == rounds_needed(np.empty(0, np.int32), capacity) == 1
    assert (request.rows_K == UNUSED).all()
    assert slots.tolist() == [5, 4]


def test_slots_have_the_arrangement_of_the_keys():
    layout = RowLayout(2000)
    keys = np.random.default_rng(0).integers(0, 2000, (2, 3, 2))
    request, slots = plan(keys, layout, capacity_for(12, 12, 2, layout))
    assert slots.shape == keys.shape
    np.testing.assert_array_equal(request.rows_K[slots], layout.row(keys))


# Mistakes


@pytest.mark.parametrize(("key", "table"), [(2000, 2000), (70_000, 2000), (-3, 2000), (-900, 7)])
def test_a_key_of_no_row_is_named(key, table):
    layout = RowLayout(table)
    keys = np.array([0, NO_ROW, key, PADDING, 3])
    message = rf"key {key} of a table with keys 0 to {table - 1}: .* no server owns\. Look at the"
    with pytest.raises(DataError, match=message):
        plan(keys, layout, capacity_for(5, 5, 2, layout))


def test_one_row_too_often_for_any_number_of_rounds():
    layout = RowLayout(2000)
    keys = np.full(9, 17)
    capacity = capacity_for(9, 8, 2, layout)
    message = r"one row stands more often .* than the 8 rows .*: set exchange.dedup_worker=true"
    with pytest.raises(DataError, match=message):
        plan(keys, layout, capacity, distinct=False)
    request, _ = plan(keys, layout, capacity)
    assert request.rounds.tolist() == [1]


@pytest.mark.parametrize("name", ["unique", "per_server", "servers", "rows_per_server"])
def test_an_exchange_without_room_is_refused(name):
    sizes = {"unique": 4, "per_server": 4, "servers": 2, "rows_per_server": 512} | {name: 0}
    with pytest.raises(ConfigError, match=rf"capacity {name}=0: .* must be at least 1"):
        Capacity(**sizes)
