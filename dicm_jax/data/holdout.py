"""A validation split: the newest train groups, held out to choose a step or a setting by.

Shape legend
    G   groups     B   impressions     H   behaviors over all groups
"""

import dataclasses

import numpy as np

from dicm_jax.data.schema import ClickLog, GroupedImpressions
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
      DataError: so few groups that one of the two would be empty.
    """
    if not share:
        return log
    groups = log.train.n_groups
    first = groups - round(share * groups)
    if not 0 < first < groups:
        raise DataError(
            f"data.validation_share={share} of {groups} train groups of log {log.name!r} leaves"
            f" {first} to train on and {groups - first} to validate on: both need at least one"
        )
    train, validation = cut(log.train, 0, first), cut(log.train, first, groups)
    known_N = np.zeros(len(log.items.image_N), bool)
    known_N[train.item_B] = True
    known_N[train.behavior_item_H] = True
    validation = dataclasses.replace(validation, cold_B=~known_N[validation.item_B])
    return dataclasses.replace(log, train=train, validation=validation)


def cut(split: GroupedImpressions, first: int, end: int) -> GroupedImpressions:
    """The groups from `first` up to, but not including, `end`."""
    behaviors = slice(*split.behavior_offsets[[first, end]])
    rows = slice(*split.impression_offsets[[first, end]])
    known = split.probability_B
    return GroupedImpressions(
        user_G=split.user_G[first:end],
        user_ids_GF=split.user_ids_GF[first:end],
        behavior_offsets=split.behavior_offsets[first : end + 1] - split.behavior_offsets[first],
        behavior_item_H=split.behavior_item_H[behaviors],
        impression_offsets=split.impression_offsets[first : end + 1]
        - split.impression_offsets[first],
        item_B=split.item_B[rows],
        context_ids_BF=split.context_ids_BF[rows],
        click_B=split.click_B[rows],
        cold_B=split.cold_B[rows],
        probability_B=None if known is None else known[rows],
    )
