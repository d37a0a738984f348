"""Every strategy on either placement, on any devices: the numbers of one device with `ams`."""

import functools
from typing import Any

import numpy as np
import pytest

from dicm_jax.ams.feature_table import Storage
from dicm_jax.config import ExchangeConfig
from tests import small_world
from tests.outcomes import Outcome, assert_same, cosine, difference, leaves_by_name, outcome

STEPS = 16  # the ragged batch, number 14, included
STRATEGIES = ("ams", "ps_server", "ps_worker")
COLOCATED = [(1, 1), (1, 2), (1, 4), (2, 4), (1, 8)]
DEDICATED = [(1, 1), (1, 2), (2, 2), (1, 4)]
"""Workers of each server, and servers."""
DEVICES = [("colocated", *mesh) for mesh in COLOCATED] + [
    ("dedicated", *mesh) for mesh in DEDICATED
]


@functools.cache
def one_device(storage: Storage) -> Outcome:
    return outcome(small_world.run(1, 1, storage=storage), STEPS)


def settings(strategy: Any) -> ExchangeConfig:
    return ExchangeConfig(chunk=64, strategy=strategy)


CASES = [
    (strategy, *devices)
    for strategy in STRATEGIES
    for devices in DEVICES
    if (strategy, devices[0]) != ("ams", "colocated")  # in test_step.py
]


@pytest.mark.parametrize(("strategy", "placement", "worker", "server"), CASES)
def test_losses_and_state_are_those_of_one_device(strategy, placement, worker, server):
    run = small_world.run(worker, server, placement=placement, settings=settings(strategy))
    assert_same(outcome(run, STEPS), one_device("float32"))


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("placement", ["colocated", "dedicated"])
def test_rows_in_any_format_give_the_same_by_any_strategy(storage, strategy, placement):
    run = small_world.run(1, 2, placement=placement, settings=settings(strategy), storage=storage)
    assert_same(outcome(run, STEPS), one_device(storage))


@functools.cache
def gradients(storage: Storage) -> dict[str, np.ndarray]:
    """Gradients of the first batch, away from where parameters start."""
    optimizers = small_world.keep_gradients()
    run = small_world.run(1, 1, storage=storage, optimizers=optimizers, moved_by=0.1)
    run.go(1)
    kept = {"dense": run.state.dense_optimizer, "ids": run.state.ids["mu"]}
    return {name: np.asarray(leaf) for name, leaf in leaves_by_name(kept).items()}


@pytest.mark.parametrize(("storage", "least"), [("bfloat16", 0.9999), ("int8", 0.99)])
def test_gradients_of_narrow_rows_point_where_those_of_float32_rows_do(storage, least):
    exact, narrow = gradients("float32"), gradients(storage)
    cosines = {name: cosine(narrow[name], exact[name]) for name in exact}
    assert min(cosines.values()) > least, min(cosines.items(), key=lambda item: item[1])
    assert max(difference(narrow[name], exact[name]) for name in exact) > 1e-4
