"""Sample groups of a log of purchases: impressions of one day, and what was bought before.

Shape legend
    G   groups           B   impressions (one split)
    P   purchases        H   behaviors                F   ID fields of one level
"""

import numpy as np

from dicm_jax.data.purchases.world import World
from dicm_jax.data.schema import GroupedImpressions
from dicm_jax.data.statistics import DatedEvents, bucket

USER_FIELDS = ("history_length", "days_since_purchase")
CONTEXT_FIELDS = ("sales", "article_age")
# Sales of recent days are left out on purpose: an item is shown without a click only if others
# bought it in the same 7 days, so few recent sales tell a click by how impressions were drawn.

_CHUNK = 1 << 22
_DAY_S = 86_400


def grouped(world: World, chosen_B: np.ndarray, *, behaviors: int) -> GroupedImpressions:
    """Groups of the chosen impressions; `cold_B` is False throughout."""
    everything = world.impressions
    order_B = np.flatnonzero(chosen_B)
    order_B = order_B[np.lexsort((everything.customer_B[order_B], everything.day_B[order_B]))]
    customer_B, day_B = everything.customer_B[order_B], everything.day_B[order_B]
    item_B = everything.item_B[order_B]
    starts_B = (np.diff(customer_B, prepend=-1) != 0) | (np.diff(day_B, prepend=day_B[0]) != 0)
    first_G = np.flatnonzero(starts_B)
    customer_G, day_G = customer_B[first_G], day_B[first_G]
    behavior_offsets, position_H = world.histories.newest(customer_G, day_G, behaviors)
    user_statistics = (
        world.histories.count(customer_G, day_G),
        world.histories.days_since_last(customer_G, day_G),
    )
    return GroupedImpressions(
        user_G=customer_G,
        user_ids_GF=np.column_stack([bucket(column_G) for column_G in user_statistics]),
        behavior_offsets=behavior_offsets,
        behavior_item_H=world.purchases.item_P[position_H],
        impression_offsets=np.append(first_G, len(item_B)).astype(np.int64),
        item_B=item_B,
        context_ids_BF=_context_ids(world.sales, item_B, day_B),
        click_B=everything.click_B[order_B],
        cold_B=np.zeros(len(item_B), bool),
        time_G=day_G.astype(np.int64) * _DAY_S,
    )


def _context_ids(sales: DatedEvents, item_B: np.ndarray, day_B: np.ndarray) -> np.ndarray:
    """Buckets of `CONTEXT_FIELDS`, int32 ``[B, 2]``; in chunks, for the 64-bit in-betweens."""
    ids_BF = np.empty((len(item_B), len(CONTEXT_FIELDS)), np.int32)
    first_day = int(day_B.min())
    days = int(day_B.max()) - first_day + 1
    for start in range(0, len(item_B), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        # One sorted query for each distinct (item, day): popular pairs come many times.
        pair_B = item_B[chunk].astype(np.int64) * days + (day_B[chunk] - first_day)
        pair_Q, query_B = np.unique(pair_B, return_inverse=True)
        item_Q, day_Q = pair_Q // days, pair_Q % days + first_day
        statistics = (
            sales.count(item_Q, day_Q),
            sales.days_since_first(item_Q, day_Q),
        )
        ids_BF[chunk] = np.column_stack([bucket(column_Q) for column_Q in statistics])[query_B]
    return ids_BF
