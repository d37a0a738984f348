"""De-duplication off and on: the same losses, and the counts of rows that NumPy finds.

Shape legend
    A   lanes of a batch    F   ID fields    L   behaviors
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.ams.mesh import shape_of
from dicm_jax.config import ExchangeConfig
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.training.batch import IDS
from tests import small_world
from tests.outcomes import Outcome, assert_same, outcome

STEPS = 8
CASES = [
    ("ams", "colocated", (2, 4), True, True),
    ("ams", "colocated", (2, 4), True, False),
    ("ams", "colocated", (2, 4), False, True),
    ("ams", "colocated", (2, 4), False, False),
    ("ams", "dedicated", (2, 2), False, True),
    ("ps_server", "colocated", (1, 2), False, False),
    ("ps_worker", "dedicated", (1, 2), False, True),
]
"""Strategy, placement, devices, and whether rows are listed, and embedded, once each."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """Rows of one list of a batch, as `Traffic` has them."""

    places: int
    listed: int
    handled: int


def keys_of(keys: KeyBatch, name: str) -> list[np.ndarray]:
    if name == IDS:
        return [keys.user_AGF, keys.impression_ABF, keys.behavior_AGLF]
    return [keys.ad_AB[IMAGE] if name == "ad" else keys.behavior_content_AGL[IMAGE]]


def counted(run: small_world.Run, keys: KeyBatch, name: str, settings: ExchangeConfig) -> Counted:
    """Places, what requesters ask for, and what owners embed or update, from the keys alone."""
    requesters, servers = run.roles.requesters, shape_of(run.roles.servers).server
    lanes = len(keys.label_AB) // (requesters * run.roles.workers_per_list)
    by_requester = []
    for number in range(requesters):
        blocks = range(number, requesters * run.roles.workers_per_list, requesters)
        own = np.concatenate([np.arange(i * lanes, (i + 1) * lanes) for i in blocks])
        flat = np.concatenate([array[own].ravel() for array in keys_of(keys, name)])
        flat = flat[flat >= 0]
        by_requester.append(np.unique(flat) if settings.dedup_worker else flat)
    everything = np.concatenate([array.ravel() for array in keys_of(keys, name)])
    listed = sum(len(rows) for rows in by_requester)
    if name == IDS:  # always summed per row, over all devices
        handled = len(np.unique(everything[everything >= 0]))
    elif settings.strategy == "ams" and settings.dedup_server:
        rows = [by_requester[i : i + servers] for i in range(0, requesters, servers)]
        handled = sum(len(np.unique(np.concatenate(of_row))) for of_row in rows)
    else:
        handled = listed
    return Counted(int((everything >= 0).sum()), listed, handled)


@pytest.fixture(scope="module")
def base() -> Outcome:
    return outcome(small_world.run(1, 1), STEPS)


@pytest.mark.parametrize(("strategy", "placement", "mesh", "worker", "server"), CASES)
def test_switches_change_the_traffic_and_nothing_else(
    base, strategy: Any, placement, mesh, worker, server
):
    settings = ExchangeConfig(chunk=64, strategy=strategy, dedup_worker=worker, dedup_server=server)
    found = outcome(small_world.run(*mesh, placement=placement, settings=settings), STEPS)
    assert_same(found, base)
    for n, traffic in enumerate(found.traffic):
        for name in (IDS, "ad", "behavior"):
            expected = counted(found.run, found.run.source[n], name, settings)
            seen = Counted(
                int(traffic.places[name]), int(traffic.listed[name]), int(traffic.handled[name])
            )
            assert seen == expected, (n, name)


def test_both_switches_save_something():
    """Else equal counts would show nothing."""
    run = small_world.run(2, 4)
    batches = [run.source[n] for n in range(STEPS)]
    settings = ExchangeConfig()
    for names in ([IDS], ["ad", "behavior"]):
        found = [counted(run, keys, name, settings) for keys in batches for name in names]
        places, listed, handled = np.sum([dataclasses.astuple(each) for each in found], axis=0)
        assert handled < listed < places, names
