"""What a partition of items knows: how often each was clicked before an impression, and since when.

Shape legend
    B   impressions     P   behaviors     F   context fields
"""

import numpy as np

from dicm_jax.data.statistics import DatedEvents, bucket, dated_events
from dicm_jax.preparation.partition import Columns, Parts, parted
from dicm_jax.preparation.plan import Plan


def with_item_statistics(plan: Plan, shown: Columns | None, clicked: Columns | None) -> Parts:
    """The impressions of some items, with statistics of earlier periods, for their users.

    Args:
      plan: of the preparation.
      shown: all impressions of these items.
      clicked: all behaviors on these items.
    """
    if shown is None:
        return []
    config = plan.config
    items, item_B = np.unique(shown["item"], return_inverse=True)
    events = _events(items, clicked)
    period_B = shown["second"] // config.period_s
    columns = {name: shown[name] for name in ("user", "item", "click", "row")}
    columns["period"] = period_B
    columns |= {name: shown[name] for name in config.impressions.column_of}
    for name in plan.item_statistics():
        columns[name] = _STATISTICS[name](plan, events, item_B, period_B)
    columns["cold"] = _cold(plan, events, item_B, shown["second"])
    return parted(columns, "user", plan.partitions)


def without_repeats(clicked: Columns, first: str) -> Columns:
    """Behaviors sorted by `first` (``user`` or ``item``) and time, each one counted once.

    The same user clicking the same item twice in a period is one behavior.
    """
    other = "item" if first == "user" else "user"
    order_P = np.lexsort((clicked[other], clicked["period"], clicked[first]))
    sorted_P = {name: clicked[name][order_P] for name in (first, "period", other)}
    new_P = np.zeros(len(order_P), bool)
    new_P[:1] = True
    for values_P in sorted_P.values():
        new_P[1:] |= values_P[1:] != values_P[:-1]
    return {name: values_P[new_P] for name, values_P in sorted_P.items()}


def _events(items: np.ndarray, clicked: Columns | None) -> DatedEvents:
    """The behaviors on the items given, who are numbered by their place."""
    nothing = np.zeros(0, np.int64)
    if clicked is None:
        return dated_events(nothing, nothing, len(items))
    once = without_repeats(clicked, "item")
    place_P = np.searchsorted(items, once["item"])
    among_P = items[np.minimum(place_P, len(items) - 1)] == once["item"]
    return dated_events(place_P[among_P], once["period"][among_P], len(items))


def _behaviors_so_far(
    plan: Plan, events: DatedEvents, item_B: np.ndarray, period_B: np.ndarray
) -> np.ndarray:
    return bucket(events.count(item_B, period_B))


def _age(plan: Plan, events: DatedEvents, item_B: np.ndarray, period_B: np.ndarray) -> np.ndarray:
    seconds_B = events.days_since_first(item_B, period_B) * plan.config.period_s
    return bucket(-(-seconds_B // plan.config.statistics_unit_s))


_STATISTICS = {"item_behaviors": _behaviors_so_far, "item_age": _age}


def _cold(plan: Plan, events: DatedEvents, item_B: np.ndarray, second_B: np.ndarray) -> np.ndarray:
    """Whether nobody clicked the item before the split of its impression; never in train."""
    cold_B = np.zeros(len(item_B), bool)
    for cut, end in zip(plan.cuts, (plan.cuts[1], np.inf), strict=True):
        in_split = np.flatnonzero((second_B >= cut) & (second_B < end))
        before = np.full(len(in_split), cut // plan.config.period_s)
        cold_B[in_split] = events.count(item_B[in_split], before) == 0
    return cold_B
