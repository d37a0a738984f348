"""Staged tables: what lists lead to on the host is what they led to in the whole table.

Shape legend
    K   slots of a list of rows    D   content width    N   requesters
"""

from collections.abc import Sequence

import numpy as np
import pytest

from dicm_jax.ams import staging
from dicm_jax.ams.feature_table import Storage
from dicm_jax.ams.layout import RowLayout
from dicm_jax.ams.plan import UNUSED, Capacity, Request, plan
from tests.small_world import ArrayTable

KEYS, D, SLOTS = 3000, 7, 50
LAYOUT = RowLayout(KEYS)
MESHES = [(1, 1), (1, 4), (2, 2), (3, 2), (2, 8)]
"""Rows of requesters that share servers, and servers."""


def table(storage: Storage = "float32") -> ArrayTable:
    rows_VD = np.random.default_rng(0).normal(size=(KEYS, D)).astype(np.float32)
    return ArrayTable(rows_VD, storage)


def requests(rows: int, capacity: Capacity) -> dict[int, Request]:
    """Skewed requests; the last requester wants nothing."""
    made = {}
    for number in range(rows * capacity.servers):
        rng = np.random.default_rng(number)
        popular = np.floor(40 * rng.random(20) ** 2).astype(int) * 71
        keys = np.concatenate([popular, rng.integers(0, KEYS, 30)])
        if number == rows * capacity.servers - 1 > 0:
            keys = np.full(1, -1)
        made[number] = plan(keys, LAYOUT, capacity)[0]
    return made


def capacity_for(servers: int, per_server: int = SLOTS) -> Capacity:
    return Capacity(SLOTS, per_server, servers, LAYOUT.rows_per_server(servers))


def used(request: Request) -> np.ndarray:
    return request.rows_K[request.rows_K != UNUSED]


def features(of_rows: np.ndarray, at_rest: ArrayTable) -> tuple[np.ndarray, np.ndarray | None]:
    return at_rest.gather(LAYOUT.key(of_rows))


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_renumbered_lists_lead_to_the_same_features_at_the_same_server(mesh, storage):
    rows, servers = mesh
    capacity, at_rest = capacity_for(servers), table(storage)
    before = requests(rows, capacity)
    staged = staging.at_servers(before, list(before), at_rest, capacity, 4)
    length = len(staged.tables[0].stored_VD)
    for number, request in before.items():
        first = number - number % servers  # the servers of its row of the mesh
        old, new = used(request), used(staged.requests[number])
        assert len(new) == len(old)
        assert (np.diff(new) > 0).all()
        assert staged.requests[number].rows_K.dtype == np.int32
        np.testing.assert_array_equal(staged.requests[number].places, request.places)
        expected, scales = features(old, at_rest)
        for i, (old_row, new_row) in enumerate(zip(old, new, strict=True)):
            server, place = divmod(int(new_row), length)
            assert server == old_row // capacity.rows_per_server
            at_server = staged.tables[first + server]
            np.testing.assert_array_equal(at_server.stored_VD[place], expected[i])
            if scales is not None:
                assert at_server.scale_V is not None
                assert at_server.scale_V[place] == scales[i]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_a_server_gets_each_row_once_and_nothing_else(mesh):
    rows, servers = mesh
    capacity, at_rest = capacity_for(servers), table()
    before = requests(rows, capacity)
    staged = staging.at_servers(before, list(before), at_rest, capacity, 4)
    for number, made in staged.tables.items():
        first, server = number - number % servers, number % servers
        asked = np.unique(np.concatenate([used(before[first + r]) for r in range(servers)]))
        own = asked[asked // capacity.rows_per_server == server]
        expected, _ = features(own, at_rest)
        np.testing.assert_array_equal(made.stored_VD[: len(own)], expected)
        assert not made.stored_VD[len(own) :].any()
        assert made.scale_V is None


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_rounds_suffice_for_the_renumbered_lists(mesh):
    """Counted row by row in windows of the staged table, whose length is the servers' share."""
    rows, servers = mesh
    capacity = capacity_for(servers, per_server=3)
    before = requests(rows, capacity)
    staged = staging.at_servers(before, list(before), table(), capacity, 4)
    length = len(staged.tables[0].stored_VD)
    window = 1 << (length - 1).bit_length()
    for request in staged.requests.values():
        rounds = int(request.rounds[0])
        assert rounds.bit_count() == 1
        of_window = [(int(r) // length, int(r) % length * rounds // window) for r in used(request)]
        assert max([of_window.count(w) for w in set(of_window)], default=0) <= 3


@pytest.mark.parametrize("room", [1, 5, 8, 33, 500])
def test_staged_tables_grow_by_doubling_to_the_same_length_everywhere(room):
    capacity = capacity_for(4)
    before = requests(2, capacity)
    staged = staging.at_servers(before, list(before), table(), capacity, room)
    most = 0
    for first in (0, 4):
        asked = np.unique(np.concatenate([used(before[first + r]) for r in range(4)]))
        most = max(most, *np.bincount(asked // capacity.rows_per_server).tolist())
    expected = room
    while expected < most:
        expected *= 2
    assert {len(made.stored_VD) for made in staged.tables.values()} == {expected}


def own_parts(own: Sequence[int], everyone: dict[int, Request], capacity: Capacity):
    return staging.at_servers(everyone, own, table(), capacity, 4)


def test_a_process_stages_for_its_own_devices_what_others_would():
    capacity = capacity_for(4)
    before = requests(2, capacity)
    alone, together = (own_parts(own, before, capacity) for own in ([2, 6], list(before)))
    assert alone.requests.keys() == alone.tables.keys() == {2, 6}
    for number in (2, 6):
        np.testing.assert_array_equal(
            alone.requests[number].rows_K, together.requests[number].rows_K
        )
        np.testing.assert_array_equal(
            alone.tables[number].stored_VD, together.tables[number].stored_VD
        )


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_a_worker_gets_the_rows_of_its_list_in_its_order(storage):
    at_rest = table(storage)
    before = requests(2, capacity_for(2))
    staged = staging.at_workers(before, [0, 3], at_rest, 4)
    assert staged.tables.keys() == {0, 3}
    for number, made in staged.tables.items():
        rows = used(before[number])
        expected, scales = features(rows, at_rest)
        np.testing.assert_array_equal(made.stored_VD[: len(rows)], expected)
        assert not made.stored_VD[len(rows) :].any()
        assert made.stored_VD.dtype == expected.dtype
        if scales is not None:
            assert made.scale_V is not None
            np.testing.assert_array_equal(made.scale_V[: len(rows)], scales)
        assert staged.requests[number] is before[number]
    assert {len(made.stored_VD) for made in staged.tables.values()} == {64}
