"""Predictions for a whole split, and its scores.

Shape legend
    B   impressions of the split
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.metrics import Scores, score
from dicm_jax.training import assemble
from dicm_jax.training.assemble import Job
from dicm_jax.training.feed import feed
from dicm_jax.training.model import Model
from dicm_jax.training.state import TrainState

Predictor = Callable[[TrainState], np.ndarray]
"""From a state to the click probability of every impression of a split, float32 ``[B]``, in the
order of the log."""


def predictor(job: Job, split: str, model: Model) -> Predictor:
    """The forward pass over the split called `split`, compiled once for all its states."""
    source = assemble.evaluation_source(job.config, job.log, split)
    connection = job.connect(source, model)
    predict = connection.predict_step(model)

    def predict_split(state: TrainState) -> np.ndarray:
        probability_B = np.full(source.split.n_impressions, np.nan, np.float32)
        batches = feed(
            connection.plan, 0, len(source), prefetch=job.config.train.prefetch, roles=job.roles
        )
        for number, batch in enumerate(batches):
            predicted_B = predict(state, job.tables, batch)
            place_B = source[number].impression_AB.reshape(-1)
            for shard in predicted_B.addressable_shards:
                mine_B = place_B[shard.index]
                real_B = mine_B >= 0
                probability_B[mine_B[real_B]] = np.asarray(shard.data)[real_B]
        return _of_all_processes(probability_B)

    return predict_split


def _of_all_processes(probability_B: np.ndarray) -> np.ndarray:
    """Predictions of all processes together; each has those of its own devices, NaN elsewhere."""
    if jax.process_count() == 1:
        return probability_B
    gathered_PB = multihost_utils.process_allgather(probability_B)
    own_B = np.argmin(np.isnan(gathered_PB), axis=0)
    return gathered_PB[own_B, np.arange(len(probability_B))]


def score_split(split: GroupedImpressions, probability_B: np.ndarray) -> Scores:
    """Exact AUC, GAUC and log loss of predictions for a whole split."""
    return score(split.user_B, split.click_B, probability_B)


def oracle_gauc(split: GroupedImpressions) -> float | None:
    """GAUC of the true click probabilities, the best that can be reached; None where unknown."""
    if split.probability_B is None:
        return None
    return score_split(split, split.probability_B).gauc
