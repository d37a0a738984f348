"""A process reads the lanes of its own workers, and plans from them what it plans from all.

Shape legend
    A   lanes of a batch
"""

import dataclasses

import jax
import numpy as np
import pytest

from dicm_jax.config import ExchangeConfig
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.key_batch import KeyBatch
from tests import small_world

RUNS = {
    "1x4": {"worker": 1, "server": 4},
    "2x2": {"worker": 2, "server": 2},
    "dedicated, two workers a server": {"worker": 2, "server": 2, "placement": "dedicated"},
    "rows on the host": {"worker": 1, "server": 4, "on_host": True},
    "rows in the batch": {
        "worker": 1,
        "server": 4,
        "settings": ExchangeConfig(strategy="ps_worker", chunk=64),
    },
}


class Watched(BatchSource):
    """Remembers which lanes were asked for."""

    asked: list[int]

    def lanes(self, batch: int, which: np.ndarray) -> KeyBatch:
        self.asked = which.tolist()
        return super().lanes(batch, which)


@pytest.mark.parametrize("name", RUNS)
def test_the_plan_of_some_lanes_is_that_of_all(name):
    run = small_world.run(**RUNS[name])
    source = Watched(run.source.log, run.source.log.train, small_world.SHAPE, epochs=2, seed=0)
    everyone = range(run.planner.requesters)
    for own in ([0], [1], list(everyone)[1:], list(everyone)):
        for n in (0, 7):
            expected = run.planner.plan(source[n], own)
            found = run.planner.read(source, n, own)
            pairs = zip(
                *(jax.tree.leaves(leaves(parts)) for parts in (found, expected)), strict=True
            )
            for one, other in pairs:
                np.testing.assert_array_equal(one, other)
            needed = everyone if run.planner.host_rows else own
            assert len(source.asked) == len(set(source.asked))
            assert len(source.asked) == small_world.SHAPE.lanes * len(needed) // len(everyone)


def test_some_lanes_from_memory_are_those_of_the_whole():
    log = small_world.log()
    source = BatchSource(log, log.train, small_world.SHAPE, epochs=2, seed=0)
    for n in range(0, len(source), 5):
        for which in (np.array([3]), np.array([6, 0, 1])):
            part, whole = source.lanes(n, which), source[n].take(which)
            pairs = zip(
                *(jax.tree.leaves(dataclasses.asdict(keys)) for keys in (part, whole)), strict=True
            )
            for one, other in pairs:
                np.testing.assert_array_equal(one, other)


def leaves(parts: list) -> list:
    return [[part.servers, part.samples, part.lists, part.rows] for part in parts]
