"""Predictions for a whole split, and its scores.

Shape legend
    B   impressions of the split
"""

from collections.abc import Iterator

import jax
import numpy as np

from dicm_jax.ams.feature_table import FeatureTable
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.metrics import Scores, score
from dicm_jax.training.batch import Batch
from dicm_jax.training.state import TrainState
from dicm_jax.training.step import PredictStep


def predict_split(
    predict: PredictStep,
    state: TrainState,
    features: FeatureTable | None,
    source: BatchSource,
    batches: Iterator[Batch],
) -> np.ndarray:
    """Click probability of every impression of a split, float32 ``[B]``, in the order of the log.

    Args:
      predict: the jitted forward pass.
      state, features: what it reads.
      source: says which impression stands where in a batch.
      batches: all batches of `source`, in order, on the devices.
    """
    probability_B = np.full(source.split.n_impressions, np.nan, np.float32)
    for number, batch in enumerate(batches):
        place_B = source[number].impression_AB.reshape(-1)
        predicted_B = jax.device_get(predict(state, features, batch))
        real_B = place_B >= 0
        probability_B[place_B[real_B]] = predicted_B[real_B]
    return probability_B


def score_split(split: GroupedImpressions, probability_B: np.ndarray) -> Scores:
    """Exact AUC, GAUC and log loss of predictions for a whole split."""
    return score(split.user_B, split.click_B, probability_B)


def oracle_gauc(split: GroupedImpressions) -> float | None:
    """GAUC of the true click probabilities, the best that can be reached; None where unknown."""
    if split.probability_B is None:
        return None
    return score_split(split, split.probability_B).gauc
