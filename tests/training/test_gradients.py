"""The training step against NumPy in float64: losses, gradients of every tensor, predictions."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.data.schema import Content, in_memory
from dicm_jax.training.model import ModelSpec
from dicm_jax.training.step import StepReport
from tests import numpy_model, small_world
from tests.outcomes import difference, leaves_by_name
from tests.small_world import TEXT

FIRST, RAGGED = 0, 14
"""Numbers of batches: the ragged one, the last of an epoch, has empty lanes and empty places."""


def every_option() -> ModelSpec:
    spec = small_world.model_spec(
        interaction="product", normalizer="softmax", match=True, query_fields=(2,)
    )
    compressor = dataclasses.replace(spec.compressor, output_norm="rms")
    return dataclasses.replace(spec, compressor=compressor, share_compressor=True)


@dataclasses.dataclass
class Checked:
    """A run that keeps gradients, and its parameters in float64."""

    run: small_world.Run
    params: dict[str, Any]
    features: dict[str, np.ndarray]

    @property
    def without_effect(self) -> list[str]:
        """Parameters that no loss depends on: what is added to all weights of a softmax."""
        if self.run.model.spec.net.normalizer == "none":
            return []
        names = [
            f"net.views.{content}.aggregator.poolings.{i}.unit.output.bias"
            for content in self.run.model.spec.net.contents
            for i in (0, 1)
        ]
        return sorted(names)

    def logits(self, params: dict[str, Any], n: int) -> np.ndarray:
        source = self.run.source
        return numpy_model.all_logits(
            params, self.run.model.spec, self.features, source[n], source.stack.n_keys
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


CASES = {
    "paper": (small_world.model_spec(), small_world.log()),
    "every option": (every_option(), small_world.log()),
    "two contents": (small_world.model_spec(contents=(IMAGE, TEXT)), small_world.log_with_texts()),
}


@pytest.fixture(scope="module", params=CASES)
def checked(request) -> Checked:
    spec, log = CASES[request.param]
    optimizers = small_world.keep_gradients()
    run = small_world.run(2, 2, optimizers=optimizers, spec=spec, click_log=log, moved_by=0.1)
    params = {
        "net": run.state.params.net,
        "embedders": run.state.params.embedders,
        "ids": run.state.ids["row"],
    }
    features = {name: standardized(content) for name, content in log.contents.items()}
    return Checked(run, numpy_model.in_float64(params), features)


def standardized(content: Content) -> np.ndarray:
    raw_VD = in_memory(content.features).rows_VD.astype(np.float64)
    return (raw_VD - raw_VD.mean(axis=0)) / raw_VD.std(axis=0)


@pytest.mark.parametrize("n", [FIRST, RAGGED])
def test_the_loss_is_that_of_numpy_over_the_impressions_that_are_there(checked, n):
    report = checked.take(checked.run.source[n])
    assert float(report.workers.loss) == pytest.approx(checked.loss(checked.params, n), rel=1e-5)


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
        assert sorted(zero) == checked.without_effect


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
    junk = lambda array: _with_junk(array, empty_AB, real_B)  # noqa: E731
    for name in ("impression_ABF", "ad_AB", "group_AB"):
        spoilt[name] = jax.tree.map(junk, getattr(keys, name))
    spoilt["label_AB"] = np.where(empty_AB, 1, keys.label_AB).astype(np.int32)
    dirty = checked.take(dataclasses.replace(keys, **spoilt))
    assert float(dirty.workers.loss) == pytest.approx(float(clean.workers.loss), rel=1e-6)
    gradients = leaves_by_name(checked.gradients())
    for name, e in leaves_by_name(expected).items():
        assert difference(gradients[name], e) < 1e-5, name


def _with_junk(array: np.ndarray, empty_AB: np.ndarray, real_B: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[empty_AB] = array.reshape(empty_AB.size, *array.shape[2:])[real_B]
    return array


def test_magnitudes_are_the_squares_of_the_gradients(checked):
    report = checked.take(checked.run.source[0])
    gradients = checked.gradients()
    del gradients["ids"]
    found = report.workers.magnitudes | report.embedders
    for name, g in leaves_by_name(gradients).items():
        magnitude = float(found[f"gradient of {name}"])
        assert magnitude == pytest.approx(float(np.sum(g**2)), rel=1e-4), name


def test_predictions_are_the_click_probabilities_of_numpy(checked):
    run = checked.run
    keys = run.source[RAGGED]
    predicted_B = np.asarray(run.predict(run.fresh(), run.tables, run.batch(keys)))
    logits_B2 = checked.logits(checked.params, RAGGED)
    expected_B = 1 / (1 + np.exp(logits_B2[:, 0] - logits_B2[:, 1]))
    real_B = keys.weight_AB.ravel() > 0
    np.testing.assert_allclose(predicted_B[real_B], expected_B, rtol=1e-5)
