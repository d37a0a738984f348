"""Keys and rows are one to one, and no number of servers changes where a row lies."""

import numpy as np
import pytest

from dicm_jax.ams.layout import VIRTUAL_SHARDS, RowLayout

SIZES = [1, 5, 1023, 1024, 1025, 2048, 3001, 10_000]
SERVERS = [1, 2, 4, 8, 1024]


@pytest.mark.parametrize("n_keys", SIZES)
def test_row_and_key_are_inverse(n_keys):
    layout = RowLayout(n_keys)
    rows = layout.row(np.arange(n_keys))
    assert rows.dtype == np.int32
    assert len(np.unique(rows)) == n_keys
    assert rows.min() >= 0
    assert rows.max() < layout.n_rows
    np.testing.assert_array_equal(layout.key(rows), np.arange(n_keys))


@pytest.mark.parametrize("n_keys", SIZES)
def test_rows_without_a_key_are_told_by_their_number(n_keys):
    layout = RowLayout(n_keys)
    taken = np.zeros(layout.n_rows, bool)
    taken[layout.row(np.arange(n_keys))] = True
    np.testing.assert_array_equal(layout.key(np.arange(layout.n_rows)) < n_keys, taken)
    assert layout.n_rows - n_keys < VIRTUAL_SHARDS


@pytest.mark.parametrize("n_keys", SIZES)
@pytest.mark.parametrize("servers", SERVERS)
def test_a_virtual_shard_lies_on_one_server(n_keys, servers):
    layout = RowLayout(n_keys)
    keys = np.arange(n_keys)
    server = layout.row(keys) // layout.rows_per_server(servers)
    shard = keys % VIRTUAL_SHARDS
    np.testing.assert_array_equal(server, shard // (VIRTUAL_SHARDS // servers))
    assert layout.rows_per_server(servers) * servers == layout.n_rows


@pytest.mark.parametrize("n_keys", SIZES)
def test_arrange_puts_each_entry_at_its_row_and_zeros_elsewhere(n_keys):
    layout = RowLayout(n_keys)
    by_key = np.random.default_rng(0).normal(size=(n_keys, 3)).astype(np.float32)
    arranged = layout.arrange(by_key)
    assert arranged.dtype == by_key.dtype
    assert arranged.shape == (layout.n_rows, 3)
    for key in np.random.default_rng(1).integers(0, n_keys, 20):
        np.testing.assert_array_equal(arranged[layout.row(key[None])[0]], by_key[key])
    assert np.count_nonzero(arranged.any(axis=1)) == n_keys


def test_keys_in_a_row_spread_over_servers():
    layout = RowLayout(100_000)
    for first in (0, 511, 1024, 77_777):
        rows = layout.row(np.arange(first, first + VIRTUAL_SHARDS))
        counts = np.bincount(rows // layout.rows_per_server(8), minlength=8)
        assert counts.tolist() == [VIRTUAL_SHARDS // 8] * 8
