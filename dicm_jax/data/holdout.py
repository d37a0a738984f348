"""A validation split: the newest train groups, held out to choose a step or a setting by.

Shape legend
    N   items
"""

import dataclasses

import numpy as np

from dicm_jax.data.groups import cut
from dicm_jax.data.schema import ClickLog
from dicm_jax.errors import DataError


def with_validation(log: ClickLog, share: float) -> ClickLog:
    """The log with its newest train groups as the split ``validation``.

    Readers list groups in order of time, so nothing that is trained on is newer than what is held
    out. ``cold_B`` of the new split marks items that the rest of train neither shows nor has as a
    behavior.

    Args:
      log: the log; with a `share` of 0 it comes back as it is.
      share: of the train groups.

    Raises:
      DataError: so few groups that one of the two would be empty, or train is not in memory.
    """
    if not share:
        return log
    whole = log.split("train")
    groups = whole.n_groups
    first = groups - round(share * groups)
    if not 0 < first < groups:
        raise DataError(
            f"data.validation_share={share} of {groups} train groups of log {log.name!r} leaves"
            f" {first} to train on and {groups - first} to validate on: both need at least one"
        )
    train, validation = cut(whole, 0, first), cut(whole, first, groups)
    known_N = np.zeros(len(log.items.image_N), bool)
    known_N[train.item_B] = True
    known_N[train.behavior_item_H] = True
    validation = dataclasses.replace(validation, cold_B=~known_N[validation.item_B])
    return dataclasses.replace(log, train=train, validation=validation)
