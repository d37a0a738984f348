"""Predictions for a whole split, and its scores.

Shape legend
    B   impressions of the split
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.ams.mesh import batch_sharding
from dicm_jax.config import Config
from dicm_jax.data.schema import ClickLog, GroupedImpressions
from dicm_jax.metrics import Scores, score
from dicm_jax.training import assemble
from dicm_jax.training.feed import feed
from dicm_jax.training.model import Model, ModelSpec
from dicm_jax.training.state import TrainState
from dicm_jax.training.step import make_predict_step

Predictor = Callable[[TrainState], np.ndarray]
"""From a state to the click probability of every impression of a split, float32 ``[B]``, in the
order of the log."""


def predictor(
    config: Config,
    log: ClickLog,
    split: str,
    mesh: Mesh,
    model: Model,
    spec: ModelSpec,
    features: FeatureTable | None,
) -> Predictor:
    """The forward pass over the split called `split`, compiled once for all its states."""
    source = assemble.evaluation_source(config, log, split)
    room = assemble.capacities(config, source, mesh, spec)
    predict = make_predict_step(model, room, mesh)
    plan = assemble.planner(source, mesh, room, spec)
    ahead, sharding = config.train.prefetch, batch_sharding(mesh)

    def predict_split(state: TrainState) -> np.ndarray:
        probability_B = np.full(source.split.n_impressions, np.nan, np.float32)
        batches = feed(plan, 0, len(source), prefetch=ahead, sharding=sharding)
        for number, batch in enumerate(batches):
            place_B = source[number].impression_AB.reshape(-1)
            predicted_B = jax.device_get(predict(state, features, batch))
            real_B = place_B >= 0
            probability_B[place_B[real_B]] = predicted_B[real_B]
        return probability_B

    return predict_split


def score_split(split: GroupedImpressions, probability_B: np.ndarray) -> Scores:
    """Exact AUC, GAUC and log loss of predictions for a whole split."""
    return score(split.user_B, split.click_B, probability_B)


def oracle_gauc(split: GroupedImpressions) -> float | None:
    """GAUC of the true click probabilities, the best that can be reached; None where unknown."""
    if split.probability_B is None:
        return None
    return score_split(split, split.probability_B).gauc
