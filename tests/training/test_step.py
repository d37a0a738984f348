"""The training step on devices with both roles: the same numbers on any mesh.

Differences between meshes are due to rounding alone, which PReLU kinks and the first, sign-like
steps of Adam can amplify: the model is small enough for no activation to change sides in 20 steps.
"""

import dataclasses

import jax
import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.ams.layout import RowLayout
from tests import small_world
from tests.outcomes import Outcome, assert_same, leaves_by_name, outcome

STEPS = 20
MESHES = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (8, 1)]
RAGGED = 14
"""Number of a ragged batch, the last of an epoch: it has empty lanes and empty places."""


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[int, int], Outcome]:
    return {mesh: outcome(small_world.run(*mesh), STEPS) for mesh in MESHES}


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_gives_the_same_losses_and_the_same_state(outcomes, mesh):
    assert len(outcomes[1, 1].leaves) > 100
    assert_same(outcomes[mesh], outcomes[1, 1])


def test_the_steps_move_every_parameter_and_every_row_met(outcomes):
    run = outcomes[1, 1].run
    before = leaves_by_name(run.fresh().params)
    for name, leaf in leaves_by_name(run.state.params).items():
        assert not np.array_equal(before[name], leaf), name
    keys = [run.source[n] for n in range(STEPS)]
    met = np.unique(
        np.concatenate(
            [k.ravel() for b in keys for k in (b.user_AGF, b.impression_ABF, b.behavior_AGLF)]
        )
    )
    rows = RowLayout(run.source.stack.n_keys).row(met[met >= 0])
    moved_V = (np.asarray(run.state.ids["row"]) != np.asarray(run.fresh().ids["row"])).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved_V), np.sort(rows))


def test_a_run_with_a_ragged_batch_is_traced_once(outcomes):
    weight_AB = outcomes[1, 1].run.source[RAGGED].weight_AB
    assert (weight_AB.sum(axis=1) == 0).any()
    assert RAGGED < STEPS
    assert {mesh: other.traces for mesh, other in outcomes.items()} == {
        mesh: {1} for mesh in MESHES
    }


def test_losses_are_reported_as_the_mean_over_impressions_that_are_there(outcomes):
    assert np.isfinite(outcomes[1, 1].losses).all()
    np.testing.assert_allclose(outcomes[1, 1].losses, np.log(2), atol=0.1)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)])
def test_the_state_is_given_away(outcomes, mesh):
    run = outcomes[mesh].run
    old = run.fresh()
    run.step(old, run.tables, run.batch(run.source[0]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(run.tables))


def test_a_feature_that_is_not_a_number_shows_where_it_came_in(outcomes):
    """The vectors are the first to be affected; ID rows are not."""
    run = outcomes[1, 2].run
    keys = run.source[0]
    image = keys.ad_AB[IMAGE][keys.ad_AB[IMAGE] >= 0][0]
    row = RowLayout(small_world.IMAGES).row(np.array([image]))[0]
    table = run.tables[IMAGE]
    stored_VD = np.asarray(table.stored_VD).copy()
    stored_VD[row, 3] = np.nan
    stored_VD = jax.device_put(stored_VD, table.stored_VD.sharding)
    spoilt = {IMAGE: dataclasses.replace(table, stored_VD=stored_VD)}
    _, report = run.step(run.fresh(), spoilt, run.batch(keys))
    finite = {name: bool(np.isfinite(value)) for name, value in report.workers.magnitudes.items()}
    assert finite["ID rows"]
    assert not finite["vectors of compressor 'ad'"]
    assert not finite["loss"]
    first = next(name for name, is_finite in finite.items() if not is_finite)
    assert first == "vectors of compressor 'ad'"


def test_overflown_capacities_change_nothing_but_the_rounds(outcomes):
    narrow = outcome(small_world.run(2, 4, per_server=2), STEPS)
    assert outcomes[2, 4].rounds == 1
    assert narrow.rounds >= 8
    assert_same(narrow, outcomes[2, 4])
