"""What is counted of a split while its blocks go by.

Shape legend
    N   items      G   groups of a block      B   their impressions      H   their behaviors
    F   ID fields of a level
"""

import collections
import dataclasses

import numpy as np

from dicm_jax.data.inspection.counting import Histogram, KeySet
from dicm_jax.data.schema import GroupedImpressions

HOUR_S = 3600


def _keys() -> collections.defaultdict[str, KeySet]:
    return collections.defaultdict(KeySet)


@dataclasses.dataclass
class Tally:
    """Counts over the blocks of a split that have been looked at; begins with none.

    Attributes:
      shown_N, clicked_N, behavior_N: how often each item was shown, was clicked, was a behavior.
      blocks, groups, impressions, behaviors, clicks, cold, cold_clicks: how many.
      users: who.
      lengths, sizes: behaviors, and impressions, of each group.
      first, last: seconds since 1970 of the first and the last group; None without times.
      hours: impressions and clicks by the hours since 1970 of their groups.
      keys: that each ID field of users and impressions had, by field.
      unseen: impressions with a key that train never had, likewise; for splits behind train.
    """

    shown_N: np.ndarray
    clicked_N: np.ndarray
    behavior_N: np.ndarray
    blocks: int = 0
    groups: int = 0
    impressions: int = 0
    behaviors: int = 0
    clicks: int = 0
    cold: int = 0
    cold_clicks: int = 0
    users: KeySet = dataclasses.field(default_factory=KeySet)
    lengths: Histogram = dataclasses.field(default_factory=Histogram)
    sizes: Histogram = dataclasses.field(default_factory=Histogram)
    first: int | None = None
    last: int | None = None
    hours: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    keys: collections.defaultdict[str, KeySet] = dataclasses.field(default_factory=_keys)
    unseen: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def empty(cls, items: int) -> "Tally":
        """Nothing yet, for a catalogue of `items`."""
        nothing_N = np.zeros(items, np.int64)
        return cls(nothing_N, nothing_N.copy(), nothing_N.copy())

    def add(self, block: GroupedImpressions) -> None:
        """Counts the groups of a block; ID keys are `add_keys`'s."""
        clicked_B = block.click_B != 0
        self.blocks += 1
        self.groups += block.n_groups
        self.impressions += block.n_impressions
        self.behaviors += len(block.behavior_item_H)
        self.clicks += int(clicked_B.sum())
        self.cold += int(block.cold_B.sum())
        self.cold_clicks += int((block.cold_B & clicked_B).sum())
        self.users.add(block.user_G)
        self.lengths.add(np.diff(block.behavior_offsets))
        self.sizes.add(np.diff(block.impression_offsets))
        np.add.at(self.shown_N, block.item_B, 1)
        np.add.at(self.clicked_N, block.item_B[clicked_B], 1)
        np.add.at(self.behavior_N, block.behavior_item_H, 1)
        if block.time_G is not None and block.n_groups:
            self._add_times(block, block.time_G, clicked_B)

    def _add_times(
        self, block: GroupedImpressions, time_G: np.ndarray, clicked_B: np.ndarray
    ) -> None:
        first, last = int(time_G.min()), int(time_G.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        hours, hour_G = np.unique(time_G // HOUR_S, return_inverse=True)
        hour_B = np.repeat(hour_G, np.diff(block.impression_offsets))
        impressions = np.bincount(hour_B, minlength=len(hours))
        clicks = np.bincount(hour_B, weights=clicked_B, minlength=len(hours)).astype(np.int64)
        for hour, *counts in zip(hours.tolist(), impressions, clicks, strict=True):
            self.hours[hour] = self.hours.get(hour, np.zeros(2, np.int64)) + np.array(counts)

    def add_keys(
        self, field: str, keys: np.ndarray, weight: np.ndarray, seen: KeySet | None
    ) -> None:
        """Counts the keys of an ID field of a block.

        Args:
          field: its name.
          keys: of groups or of impressions.
          weight: impressions that each key stands for.
          seen: the keys that train had; None while train itself is counted.
        """
        self.keys[field].add(keys)
        if seen is not None:
            self.unseen[field] += int(weight[~seen.has(keys)].sum())
