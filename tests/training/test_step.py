"""The training step: the same numbers on any mesh, and those that NumPy finds in float64.

Differences between meshes are measured tensor by tensor, as the norm of the difference over the
norm. They are due to rounding alone, which PReLU kinks and the first, sign-like steps of Adam can
amplify: the model is small enough for no activation to change sides in 20 steps.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from dicm_jax.ams.layout import RowLayout
from dicm_jax.data.batches import KeyBatch
from dicm_jax.training.state import TrainState
from dicm_jax.training.step import StepReport, make_predict_step
from tests import numpy_model, small_world

STEPS = 20
MESHES = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 4), (8, 1)]
FIRST, RAGGED = 0, 14
"""Numbers of batches: the ragged one, the last of an epoch, has empty lanes and empty places."""
FULL_MODEL = {"interaction": "product", "normalizer": "softmax", "match": True}


@dataclasses.dataclass
class Outcome:
    """What is left of a run."""

    losses: np.ndarray
    rounds: int
    leaves: dict[str, np.ndarray]
    traces: int
    run: small_world.Run


def leaves_by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def outcome(run: small_world.Run, steps: int = STEPS) -> Outcome:
    reports = run.go(steps)
    return Outcome(
        np.array([report.loss for report in reports]),
        max(int(report.rounds) for report in reports),
        {name: np.asarray(leaf) for name, leaf in leaves_by_name(run.state).items()},
        run.step._cache_size(),
        run,
    )


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[int, int], Outcome]:
    return {mesh: outcome(small_world.run(*mesh)) for mesh in MESHES}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Norm of the difference over the norm of `b`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def test_every_mesh_gives_the_same_losses_and_the_same_state(outcomes):
    one = outcomes[1, 1]
    assert len(one.leaves) > 100
    for mesh, other in outcomes.items():
        np.testing.assert_allclose(other.losses, one.losses, rtol=1e-5, err_msg=str(mesh))
        assert other.leaves.keys() == one.leaves.keys()
        worst = {name: difference(other.leaves[name], leaf) for name, leaf in one.leaves.items()}
        assert max(worst.values()) < 1e-5, (mesh, max(worst, key=lambda name: worst[name]))


def test_the_steps_move_every_parameter_and_every_row_met(outcomes):
    run = outcomes[1, 1].run
    before = leaves_by_name(run.fresh().params)
    for name, leaf in leaves_by_name(run.state.params).items():
        assert not np.array_equal(before[name], leaf), name
    keys = [run.source[n] for n in range(STEPS)]
    met = np.unique(
        np.concatenate(
            [k.ravel() for b in keys for k in (b.user_AGF, b.impression_ABF, b.behavior_AGL)]
        )
    )
    rows = RowLayout(run.source.stack.n_keys).row(met[met >= 0])
    moved_V = (np.asarray(run.state.ids["row"]) != np.asarray(run.fresh().ids["row"])).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved_V), np.sort(rows))


def test_a_run_with_a_ragged_batch_is_traced_once(outcomes):
    weight_AB = outcomes[1, 1].run.source[RAGGED].weight_AB
    assert (weight_AB.sum(axis=1) == 0).any()
    assert RAGGED < STEPS
    assert {mesh: other.traces for mesh, other in outcomes.items()} == dict.fromkeys(MESHES, 1)


def test_losses_are_reported_as_the_mean_over_impressions_that_are_there(outcomes):
    assert np.isfinite(outcomes[1, 1].losses).all()
    np.testing.assert_allclose(outcomes[1, 1].losses, np.log(2), atol=0.1)


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4)])
def test_the_state_is_given_away(outcomes, mesh):
    run = outcomes[mesh].run
    old = run.fresh()
    run.step(old, run.features, run.batch(run.source[0]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(run.features))


def test_a_feature_that_is_not_a_number_shows_where_it_came_in(outcomes):
    """The vectors are the first to be affected; ID rows are not."""
    run = outcomes[1, 2].run
    keys = run.source[0]
    image = keys.ad_image_AB[keys.ad_image_AB >= 0][0]
    row = RowLayout(small_world.IMAGES).row(np.array([image]))[0]
    stored_VD = np.asarray(run.features.stored_VD).copy()
    stored_VD[row, 3] = np.nan
    sharding = run.features.stored_VD.sharding
    spoilt = dataclasses.replace(run.features, stored_VD=jax.device_put(stored_VD, sharding))
    _, report = run.step(run.fresh(), spoilt, run.batch(keys))
    finite = {name: bool(np.isfinite(value)) for name, value in report.magnitudes.items()}
    assert finite["ID rows"]
    assert not finite["vectors of compressor 'ad'"]
    assert not finite["loss"]
    first = next(name for name, is_finite in finite.items() if not is_finite)
    assert first == "vectors of compressor 'ad'"


def test_overflown_capacities_change_nothing_but_the_rounds(outcomes):
    narrow = outcome(small_world.run(2, 4, per_server=2))
    ample = outcomes[2, 4]
    assert ample.rounds == 1
    assert narrow.rounds >= 8
    np.testing.assert_allclose(narrow.losses, ample.losses, rtol=1e-5)
    worst = {name: difference(narrow.leaves[name], leaf) for name, leaf in ample.leaves.items()}
    assert max(worst.values()) < 1e-5, max(worst, key=lambda name: worst[name])


# Against NumPy


@dataclasses.dataclass
class Checked:
    """A run that keeps gradients, and its parameters in float64."""

    run: small_world.Run
    params: dict[str, Any]
    features_VD: np.ndarray

    @property
    def without_effect(self) -> list[str]:
        """Parameters that no loss depends on: what is added to all weights of a softmax."""
        if self.run.model.spec.net.normalizer == "none":
            return []
        return [f"net.aggregator.poolings.{i}.unit.output.bias" for i in (0, 1)]

    def logits(self, params: dict[str, Any], n: int) -> np.ndarray:
        source = self.run.source
        return numpy_model.all_logits(
            params, self.run.model.spec, self.features_VD, source[n], source.stack.n_keys
        )

    def loss(self, params: dict[str, Any], n: int) -> float:
        keys = self.run.source[n]
        return numpy_model.click_loss(self.logits(params, n), keys.label_AB[keys.weight_AB > 0])

    def take(self, keys: KeyBatch) -> StepReport:
        """Take a step from the start, so that no row keeps the gradient of an earlier one."""
        self.run.state = self.run.fresh()
        return self.run.take(keys)

    def gradients(self) -> dict[str, Any]:
        """What the last step's gradients were."""
        kept = self.run.state.dense_optimizer
        return numpy_model.in_float64(
            {"embedders": kept.embedders, "net": kept.net, "ids": self.run.state.ids["mu"]}
        )


@pytest.fixture(
    scope="module",
    params=[({}, False, "none"), (FULL_MODEL, True, "rms")],
    ids=["paper", "every option"],
)
def checked(request) -> Checked:
    changes, share, output_norm = request.param
    spec = small_world.model_spec(**changes)
    compressor = dataclasses.replace(spec.compressor, output_norm=output_norm)
    spec = dataclasses.replace(spec, compressor=compressor, share_compressor=share)
    if changes:
        net = dataclasses.replace(spec.net, query_fields=(2,))
        spec = dataclasses.replace(spec, net=net)
    optimizers = small_world.keep_gradients()
    run = small_world.run(2, 2, optimizers=optimizers, spec=spec, moved_by=0.1)
    params = {
        "net": run.state.params.net,
        "embedders": run.state.params.embedders,
        "ids": run.state.ids["row"],
    }
    raw_VD = small_world.log().features.rows_VD.astype(np.float64)
    features_VD = (raw_VD - raw_VD.mean(axis=0)) / raw_VD.std(axis=0)
    return Checked(run, numpy_model.in_float64(params), features_VD)


@pytest.mark.parametrize("n", [FIRST, RAGGED])
def test_the_loss_is_that_of_numpy_over_the_impressions_that_are_there(checked, n):
    report = checked.take(checked.run.source[n])
    assert float(report.loss) == pytest.approx(checked.loss(checked.params, n), rel=1e-5)


@pytest.mark.parametrize("n", [FIRST, RAGGED])
def test_gradients_are_the_slopes_of_the_loss_in_numpy(checked, n):
    """Of every tensor, along its gradient and two directions at random, by central differences."""
    checked.take(checked.run.source[n])
    gradients = leaves_by_name(checked.gradients())
    rng = np.random.default_rng(n)
    for i, (name, g) in enumerate(gradients.items()):
        norm = float(np.linalg.norm(g))
        for direction in [g, *rng.normal(size=(2, *g.shape))]:
            direction = direction / max(np.linalg.norm(direction), 1e-30)
            expected = pytest.approx(float(np.sum(g * direction)), abs=2e-5 * norm + 1e-8)
            assert _slope(checked, n, i, direction) == expected, name
    zero = [name for name, g in gradients.items() if np.linalg.norm(g) < 1e-6]
    if n == FIRST:
        assert zero == checked.without_effect


def _slope(checked: Checked, n: int, leaf: int, direction: np.ndarray) -> float:
    leaves, tree = jax.tree.flatten(checked.params)
    step = 1e-6
    losses = []
    for sign in (1, -1):
        moved = list(leaves)
        moved[leaf] = leaves[leaf] + sign * step * direction
        losses.append(checked.loss(jax.tree.unflatten(tree, moved), n))
    return (losses[0] - losses[1]) / (2 * step)


def test_what_stands_at_padded_places_has_no_effect(checked):
    """Keys, labels and groups of real impressions, with weight 0."""
    keys = checked.run.source[RAGGED]
    clean = checked.take(keys)
    expected = checked.gradients()
    empty_AB = keys.weight_AB == 0
    rng = np.random.default_rng(0)
    real_B = rng.choice(np.flatnonzero(~empty_AB.ravel()), int(empty_AB.sum()))
    spoilt = {}
    for name in ("impression_ABF", "ad_image_AB", "group_AB"):
        array = getattr(keys, name).copy()
        array[empty_AB] = array.reshape(empty_AB.size, *array.shape[2:])[real_B]
        spoilt[name] = array
    spoilt["label_AB"] = np.where(empty_AB, 1, keys.label_AB).astype(np.int32)
    dirty = checked.take(dataclasses.replace(keys, **spoilt))
    assert float(dirty.loss) == pytest.approx(float(clean.loss), rel=1e-6)
    gradients = leaves_by_name(checked.gradients())
    for name, e in leaves_by_name(expected).items():
        assert difference(gradients[name], e) < 1e-5, name


def test_magnitudes_are_the_squares_of_the_gradients(checked):
    report = checked.take(checked.run.source[0])
    gradients = checked.gradients()
    del gradients["ids"]
    for name, g in leaves_by_name(gradients).items():
        magnitude = float(report.magnitudes[f"gradient of {name}"])
        assert magnitude == pytest.approx(float(np.sum(g**2)), rel=1e-4), name


def test_predictions_are_the_click_probabilities_of_numpy(checked):
    run = checked.run
    predict = make_predict_step(run.model, run.capacities, run.mesh)
    keys = run.source[RAGGED]
    state: TrainState = run.fresh()
    predicted_B = np.asarray(predict(state, run.features, run.batch(keys)))
    logits_B2 = checked.logits(checked.params, RAGGED)
    expected_B = 1 / (1 + np.exp(logits_B2[:, 0] - logits_B2[:, 1]))
    real_B = keys.weight_AB.ravel() > 0
    np.testing.assert_allclose(predicted_B[real_B], expected_B, rtol=1e-5)
