"""The two vectors of Pre-rank, computed ahead: users without ads, ads without users.

Shape legend
    G   groups (users as they were at one moment)     B   ads     P   width of the vectors
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.errors import ConfigError
from dicm_jax.nn.inputs import Inputs
from dicm_jax.nn.prerank import PreRank
from dicm_jax.training.assemble import Job
from dicm_jax.training.evaluation import reader
from dicm_jax.training.model import Model
from dicm_jax.training.state import TrainState

Vectors = Callable[[TrainState], np.ndarray]
"""From a state to float32 vectors ``[number, P]``."""


def user_vectors(job: Job, users: GroupedImpressions, model: Model) -> Vectors:
    """``u`` of every group of `users`, float32 ``[G, P]``; what was shown to them is not looked at.

    Raises:
      ConfigError: the model is not a Pre-rank model.
    """
    _check(model)

    def of_groups(net: PreRank, inputs: Inputs) -> Float[Array, "B P"]:
        return net.user_vectors(inputs)[inputs.group_B]

    return reader(job, _with_any_ad(users), model, of_groups)


def ad_vectors(job: Job, item_B: np.ndarray, context_ids_BF: np.ndarray, model: Model) -> Vectors:
    """``v`` of items under given values of the context fields, float32 ``[B, P]``.

    Args:
      job: the run.
      item_B: int32, items of the log.
      context_ids_BF: int32, keys of the log's context fields, such as an item's sales so far.
      model: of the run.

    Raises:
      ConfigError: the model is not a Pre-rank model.
    """
    _check(model)

    def of_ads(net: PreRank, inputs: Inputs) -> Float[Array, "B P"]:
        return net.ad_vectors(inputs)

    return reader(job, _for_nobody(job, item_B, context_ids_BF), model, of_ads)


def _with_any_ad(users: GroupedImpressions) -> GroupedImpressions:
    """The groups, each with one impression of the first item."""
    return _shown(
        users,
        np.zeros(users.n_groups, np.int32),
        np.zeros((users.n_groups, users.context_ids_BF.shape[1]), np.int32),
    )


def _for_nobody(job: Job, item_B: np.ndarray, context_ids_BF: np.ndarray) -> GroupedImpressions:
    """The items, each shown to a user without a past."""
    nobody = GroupedImpressions(
        user_G=np.zeros(len(item_B), np.int32),
        user_ids_GF=np.zeros((len(item_B), len(job.log.fields_of("user"))), np.int32),
        behavior_offsets=np.zeros(len(item_B) + 1, np.int64),
        behavior_item_H=np.zeros(0, np.int32),
        impression_offsets=np.zeros(0, np.int64),
        item_B=item_B,
        context_ids_BF=context_ids_BF,
        click_B=np.zeros(0, np.uint8),
        cold_B=np.zeros(0, bool),
    )
    return _shown(nobody, item_B, context_ids_BF)


def _shown(
    users: GroupedImpressions, item_B: np.ndarray, context_ids_BF: np.ndarray
) -> GroupedImpressions:
    """One impression for each group."""
    changed: dict[str, Any] = {
        "impression_offsets": np.arange(len(item_B) + 1, dtype=np.int64),
        "item_B": item_B.astype(np.int32),
        "context_ids_BF": context_ids_BF.astype(np.int32),
        "click_B": np.zeros(len(item_B), np.uint8),
        "cold_B": np.zeros(len(item_B), bool),
    }
    return GroupedImpressions(
        user_G=users.user_G,
        user_ids_GF=users.user_ids_GF,
        behavior_offsets=users.behavior_offsets,
        behavior_item_H=users.behavior_item_H,
        **changed,
    )


def _check(model: Model) -> None:
    if model.spec.net.stage != "prerank":
        raise ConfigError(
            f"vectors of users and ads apart, of a model with model.stage={model.spec.net.stage!r}:"
            " only Pre-rank has them; train with model.stage='prerank' and model.aggregator='sum'"
        )
