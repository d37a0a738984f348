"""The whole family on several devices: Dice's batch statistics, towers, decay of rows.

Dice smooths what PReLU kinks, but its statistics are sums over devices in another order.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from dicm_jax.data.frequency import key_counts
from dicm_jax.training.frequency_decay import frequency_decay
from dicm_jax.training.row_adam import RowAdam
from tests import small_world
from tests.outcomes import Outcome, assert_same, outcome

STEPS = 16  # the ragged batch, number 14, included
MEMBERS: dict[str, dict[str, Any]] = {
    "din": {"basic_net": "din", "din_widths": (6,)},
    "lr, max": {"basic_net": "lr", "aggregator": "max"},
    "prerank": {"stage": "prerank", "aggregator": "sum", "tower_widths": (9, 4)},
    "similarity, matches": {"similarity": True, "match_fields": (1,)},
    "decay": {},
}
DEVICES = [("colocated", 2, 2), ("dedicated", 2, 2)]


def decaying() -> Any:
    """Adam whose ID rows are regularised by how often they occur."""
    plain = small_world.adam()
    run = small_world.run(1, 1)
    layout, n_keys = run.planner.layouts.ids, run.source.stack.n_keys
    rows = frequency_decay(
        RowAdam(), 0.5, layout.row(np.arange(n_keys)), key_counts(run.source), layout.n_rows
    )
    return dataclasses.replace(plain, rows=rows)


def taken(member: str, placement: str, worker: int, server: int) -> Outcome:
    spec = small_world.model_spec(**MEMBERS[member])
    optimizers = decaying() if member == "decay" else None
    run = small_world.run(worker, server, placement=placement, spec=spec, optimizers=optimizers)
    return outcome(run, STEPS)


@functools.cache
def one_device(member: str) -> Outcome:
    return taken(member, "colocated", 1, 1)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize(("placement", "worker", "server"), DEVICES)
def test_losses_and_state_are_those_of_one_device(member, placement, worker, server):
    assert_same(taken(member, placement, worker, server), one_device(member))


def test_dice_keeps_moving_averages_of_every_layer_and_training_moves_them():
    run = one_device("din").run
    before, after = run.fresh().moments, run.state.moments
    leaves = jax.tree.leaves(after)
    assert len(leaves) == 2 * 3  # mean and variance of the unit's layer and two of the head
    for old, new in zip(jax.tree.leaves(before), leaves, strict=True):
        assert not np.array_equal(old, new)
    assert one_device("prerank").run.state.moments == {}


def test_decay_pulls_rows_and_leaves_absent_ones_alone():
    plain, decayed = (
        np.asarray(outcome.run.state.ids["row"])
        for outcome in (taken("decay", "colocated", 1, 1), outcome(small_world.run(1, 1), STEPS))
    )
    fresh = np.asarray(small_world.run(1, 1).fresh().ids["row"])
    touched_V = (plain != fresh).any(axis=1)
    np.testing.assert_array_equal(touched_V, (decayed != fresh).any(axis=1))
    assert 0 < touched_V.sum() < len(touched_V)
    assert (plain[touched_V] != decayed[touched_V]).any(axis=1).mean() > 0.9
