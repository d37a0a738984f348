"""Feature tables on the host: the numbers of tables in device memory, bit for bit."""

from typing import Any

import numpy as np
import pytest

from dicm_jax.ams.feature_table import Storage
from dicm_jax.ams.plan import UNUSED
from dicm_jax.config import ExchangeConfig
from tests import small_world
from tests.outcomes import Outcome, outcome, programs

STEPS = 6


def settings(strategy: Any) -> ExchangeConfig:
    return ExchangeConfig(chunk=64, strategy=strategy)


def assert_same_bits(found: Outcome, expected: Outcome) -> None:
    np.testing.assert_array_equal(found.losses, expected.losses)
    assert found.leaves.keys() == expected.leaves.keys()
    for name, leaf in expected.leaves.items():
        np.testing.assert_array_equal(found.leaves[name], leaf, err_msg=name)


@pytest.mark.parametrize(
    ("strategy", "placement", "mesh", "storage"),
    [
        ("ams", "colocated", (2, 4), "float32"),
        ("ams", "colocated", (1, 1), "int8"),
        ("ams", "dedicated", (2, 2), "int8"),
        ("ps_server", "colocated", (1, 4), "int8"),
        ("ps_server", "dedicated", (1, 2), "bfloat16"),
    ],
)
def test_rows_sent_along_give_the_bits_of_rows_at_rest(strategy, placement, mesh, storage: Storage):
    device, host = (
        outcome(
            small_world.run(
                *mesh,
                placement=placement,
                settings=settings(strategy),
                storage=storage,
                on_host=on_host,
            ),
            STEPS,
        )
        for on_host in (False, True)
    )
    assert host.traces == {1}
    assert not host.run.tables
    assert_same_bits(host, device)


def needs(run: small_world.Run, steps: int) -> dict[str, list[int]]:
    """Rows of a server, the most demanding one, in each batch, by embedding model."""
    found: dict[str, list[int]] = {}
    for n in range(steps):
        parts = run.planner.plan(run.source[n], range(run.roles.requesters))
        for name, capacity in run.capacities.content.items():
            rows = np.unique(np.concatenate([part.lists[name].rows_K for part in parts]))
            of_server = np.bincount(rows[rows != UNUSED] // capacity.rows_per_server)
            found.setdefault(name, []).append(int(of_server.max()))
    return found


def grown(room: int, needed: int) -> int:
    while room < needed:
        room *= 2
    return room


@pytest.mark.parametrize("placement", ["colocated", "dedicated"])
def test_staged_tables_that_grow_are_traced_anew_and_change_nothing(placement):
    ample = small_world.run(1, 2, placement=placement, on_host=True)
    needed = needs(ample, STEPS)
    rooms = {name: int(np.median(counts)) for name, counts in needed.items()}
    tight = small_world.run(1, 2, placement=placement, on_host=True, staged_rooms=rooms)
    expected = outcome(ample, STEPS)
    found = outcome(tight, STEPS)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6)
    shapes = {
        tuple(grown(rooms[name], counts[n]) for name, counts in needed.items())
        for n in range(STEPS)
    }
    assert len(shapes) > 1
    assert max(program._cache_size() for program in programs(tight.step)) == len(shapes)
    assert expected.traces == {1}
