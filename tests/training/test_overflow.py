"""Keys by Zipf's law, heavier than what room was measured on: overflown, and still exact."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from dicm_jax.config import ExchangeConfig
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from tests import small_world
from tests.outcomes import Outcome, assert_same, outcome

STEPS = 6


def zipf(split: GroupedImpressions, exponent: float, seed: int) -> GroupedImpressions:
    """The split with items whose popularity falls with the given power of their rank."""
    rng = np.random.default_rng(seed)
    chance_N = np.arange(1, small_world.ITEMS + 1) ** -exponent
    draw = lambda length: rng.choice(  # noqa: E731
        small_world.ITEMS, length, p=chance_N / chance_N.sum()
    ).astype(np.int32)
    return dataclasses.replace(
        split,
        behavior_item_H=draw(len(split.behavior_item_H)),
        item_B=draw(len(split.item_B)),
    )


@functools.cache
def splits() -> tuple[ClickLog, GroupedImpressions]:
    """A log with a long tail, and impressions of before, when a few items were all."""
    log = small_world.log()
    before = zipf(log.train, 2.5, seed=1)
    return dataclasses.replace(log, train=zipf(log.train, 0.6, seed=2)), before


@functools.cache
def ample() -> Outcome:
    log, _ = splits()
    return outcome(small_world.run(1, 1, click_log=log), STEPS)


@pytest.mark.parametrize("placement", ["colocated", "dedicated"])
@pytest.mark.parametrize("strategy", ["ams", "ps_server", "ps_worker"])
def test_batches_heavier_than_those_measured_take_rounds_and_change_nothing(
    strategy: Any, placement
):
    log, before = splits()
    run = small_world.run(
        1,
        2,
        placement=placement,
        settings=ExchangeConfig(chunk=64, strategy=strategy),
        click_log=log,
        factor=1.0,
        measured_on=before,
    )
    found = outcome(run, STEPS)
    assert ample().rounds == 1
    assert found.rounds > 1
    assert_same(found, ample())


def test_the_law_is_met():
    """Few keys are many of the places, and most keys are met once or never."""
    log, before = splits()
    for split, share in ((before, 0.9), (log.train, 0.05)):
        _, counts = np.unique(split.item_B, return_counts=True)
        assert np.sort(counts)[-10:].sum() > share * counts.sum()
