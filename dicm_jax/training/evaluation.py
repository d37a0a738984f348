"""Predictions for a whole split, and its scores.

Shape legend
    B   impressions of the split
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.metrics import Scores, score
from dicm_jax.training import assemble, progress
from dicm_jax.training.assemble import Job
from dicm_jax.training.feed import feed
from dicm_jax.training.model import Model, Read, click_probability
from dicm_jax.training.state import TrainState

Reader = Callable[[TrainState], Any]
"""From a state to arrays ``[B, ...]``, one entry for each impression in the order of the log."""


def predictor(job: Job, split: str, model: Model) -> Reader:
    """The click probability of every impression of a split, float32 ``[B]``."""
    return reader(job, job.log.split(split), model, click_probability)


def reader(job: Job, impressions: GroupedImpressions, model: Model, read: Read) -> Reader:
    """The forward pass over `impressions`, compiled once for all its states.

    Args:
      job: the run.
      impressions: what is looked at.
      model: of the run.
      read: what is read off the network for each impression, a tree of arrays ``[B, ...]``.
    """
    source = assemble.evaluation_source(job.config, job.log, impressions)
    connection = job.connect(source, model)
    step = connection.predict_step(model, read)

    def read_all(state: TrainState) -> Any:
        collected: list[np.ndarray] = []
        structure = None
        batches = feed(
            connection.plan, 0, len(source), prefetch=job.config.train.prefetch, roles=job.roles
        )
        progress.at("the first batch of an evaluation", seldom=True)
        for number, batch in enumerate(batches):
            leaves, structure = jax.tree.flatten(step(state, job.tables, batch))
            if not collected:
                collected = [_nothing_yet(impressions.n_impressions, leaf) for leaf in leaves]
            place_B = source[number].impression_AB.reshape(-1)
            for into, leaf in zip(collected, leaves, strict=True):
                _put(into, leaf, place_B)
            progress.at(f"batch {number + 2} of {len(source)} of an evaluation")
        progress.at("gathering what an evaluation has found", seldom=True)
        return jax.tree.unflatten(structure, [_of_all_processes(array) for array in collected])

    return read_all


def _nothing_yet(impressions: int, leaf: jax.Array) -> np.ndarray:
    return np.full((impressions, *leaf.shape[1:]), np.nan, np.float32)


def _put(into: np.ndarray, leaf: jax.Array, place_B: np.ndarray) -> None:
    """Copy what this process's devices say of impressions to their places; padding is left out."""
    for shard in leaf.addressable_shards:
        mine_B = place_B[shard.index[0]]
        real_B = mine_B >= 0
        into[mine_B[real_B]] = np.asarray(shard.data)[real_B]


def _of_all_processes(own: np.ndarray) -> np.ndarray:
    """What all processes read together; each has that of its own devices, NaN elsewhere."""
    if jax.process_count() == 1:
        return own
    gathered_PB = multihost_utils.process_allgather(own)
    missing_PB = np.isnan(gathered_PB.reshape(*gathered_PB.shape[:2], -1)).any(axis=-1)
    owner_B = np.argmin(missing_PB, axis=0)
    return gathered_PB[owner_B, np.arange(len(own))]


def score_split(split: GroupedImpressions, probability_B: np.ndarray) -> Scores:
    """Exact AUC, GAUC and log loss of predictions for a whole split."""
    return score(split.user_B, split.click_B, probability_B)


def oracle_gauc(split: GroupedImpressions) -> float | None:
    """GAUC of the true click probabilities, the best that can be reached; None where unknown."""
    if split.probability_B is None:
        return None
    return score_split(split, split.probability_B).gauc
