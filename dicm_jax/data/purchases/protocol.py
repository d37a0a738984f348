"""The protocol of logs that say what was taken, by day: arguments, cut, splits and their counts.

- Impressions: those of the log, else drawn by seed (`dicm_jax.data.purchases.impressions`).
- Behaviors of an impression: the customer's purchases of strictly earlier days, duplicates of
  (customer, day, item) dropped, the newest ones; oldest first, within a day by item.
- Group: the impressions of one customer on one day, which share all of that. Groups come in the
  order of day and customer.
- Statistics, as bucketed ID fields, count duplicates once too and know strictly earlier days only:
  an item's sales so far and days since its first sale; a customer's number of purchases and days
  since the last.

Shape legend
    N   items        B   impressions        G   groups
"""

import dataclasses

import numpy as np

from dicm_jax.data.days import date_of
from dicm_jax.data.purchases.groups import grouped
from dicm_jax.data.purchases.world import World
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.errors import DataError


def check_arguments(
    source: str, *, behaviors: int, negatives: int, seed: int, validation_days: int
) -> None:
    """Every argument is at least what it must be.

    Args:
      source: what is read, for messages, e.g. ``"H&M data"``.
      behaviors, negatives, seed, validation_days: as the readers take them.

    Raises:
      DataError: one is not.
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("behaviors", behaviors, 0),
        ("negatives", negatives, 1),
        ("validation_days", validation_days, 0),
    ):
        if value < least:
            raise DataError(f"{source}: {name}={value}; must be at least {least}")


def check_cut(source: str, day_B: np.ndarray, end_day: int, cut_day: int) -> None:
    """The cut leaves both splits something.

    Args:
      source: what is read, for messages.
      day_B: the days that are used.
      end_day: the day before which validation ends.
      cut_day: first day of the test split.

    Raises:
      DataError: a split is empty; with the days found.
    """
    if not len(day_B):
        raise DataError(
            f"{source}: no impression before cut={date_of(end_day)!r}, where validation ends; set "
            "a later cut"
        )
    first, last = int(day_B.min()), int(day_B.max())
    for split, empty in (("train", first >= cut_day), ("test", last < cut_day)):
        if empty:
            raise DataError(
                f"{source}: cut at {date_of(cut_day)} leaves the {split} split empty; impressions "
                f"run from {date_of(first)} to {date_of(last)}: cut between these days"
            )


@dataclasses.dataclass(frozen=True)
class Window:
    """Days of the splits, counted from 1970.

    Attributes:
      cut_day: first day of test.
      first_day: of train; None = that of the log. What came before is behaviors and statistics.
      end_day: the day before which test ends; None = after the last.
    """

    cut_day: int
    first_day: int | None = None
    end_day: int | None = None

    def members(self, day_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which days belong to train, and which to test, bool ``[B]``."""
        train_B, test_B = day_B < self.cut_day, day_B >= self.cut_day
        if self.first_day is not None:
            train_B &= day_B >= self.first_day
        if self.end_day is not None:
            test_B &= day_B < self.end_day
        return train_B, test_B


def check_window(source: str, day_B: np.ndarray, window: Window) -> None:
    """Both splits of a window have impressions.

    Args:
      source: what is read, for messages.
      day_B: the days of all impressions.
      window: days of the splits.

    Raises:
      DataError: one has none; with its days.
    """
    for split, member_B in zip(("train", "test"), window.members(day_B), strict=True):
        if not member_B.any():
            first = window.first_day if split == "train" else window.cut_day
            end = window.cut_day if split == "train" else window.end_day
            raise DataError(
                f"{source}: no impression of the {split} split from"
                f" {'the first day' if first is None else date_of(first)} to before"
                f" {'the end' if end is None else date_of(end)}; give it more days"
            )


def splits(
    world: World, n_items: int, window: Window, *, behaviors: int
) -> tuple[GroupedImpressions, GroupedImpressions, dict[str, int | float]]:
    """Train, test, and counts of both.

    ``cold_B`` of test marks items never sold before the cut. Such an item may have been *shown* in
    the last days of training, as a negative from a week that the cut divides; the note
    ``train_impressions_of_unsold`` counts these. In train it is False throughout.

    Args:
      world: both splits together.
      n_items: items of the catalogue.
      window: days of the splits.
      behaviors: the most behaviors of a group; older purchases are left out.
    """
    cut_day = window.cut_day
    unsold_N = world.sales.count(np.arange(n_items), np.full(n_items, cut_day)) == 0
    train_B, test_B = window.members(world.impressions.day_B)
    train = grouped(world, train_B, behaviors=behaviors)
    test = grouped(world, test_B, behaviors=behaviors)
    test = dataclasses.replace(test, cold_B=unsold_N[test.item_B])
    notes = {
        "train_impressions_of_unsold": int(unsold_N[train.item_B].sum()),
        "cold_share_of_test_clicks": _share(test.cold_B[test.click_B == 1]),
        **_split_notes("train", train),
        **_split_notes("test", test),
    }
    return train, test, notes


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _split_notes(name: str, split: GroupedImpressions) -> dict[str, int | float]:
    lengths_G = np.diff(split.behavior_offsets)
    return {
        f"{name}_impressions": split.n_impressions,
        f"{name}_groups": split.n_groups,
        f"{name}_customers": len(np.unique(split.user_G)),
        f"{name}_mean_behaviors": float(lengths_G.mean()),
        f"{name}_groups_without_behaviors": int((lengths_G == 0).sum()),
    }
