"""From the rows of a log of purchases to the world that its sample groups are cut from.

Shape legend
    P   purchases        E   rows of one table
"""

import dataclasses

import numpy as np
import pyarrow as pa

from dicm_jax.data.purchases.events import Events, texts_in
from dicm_jax.data.purchases.impressions import Impressions, Purchases, sample_impressions
from dicm_jax.data.statistics import DatedEvents, dated_events


@dataclasses.dataclass(frozen=True)
class World:
    """What both splits are cut from.

    Attributes:
      purchases: all of them, sorted by customer, day and item.
      impressions: of both splits.
      histories: the purchases by customer; positions are those of `purchases`.
      sales: the purchases by item.
    """

    purchases: Purchases
    impressions: Impressions
    histories: DatedEvents
    sales: DatedEvents


def world_of(
    bought: Events, shown: Events | None, n_items: int, *, negatives: int, seed: int
) -> tuple[World, dict[str, int]]:
    """Purchases, impressions and past-only counts, with customers numbered in order of their ID.

    Args:
      bought: the purchases; duplicates of (customer, day, item) are dropped and counted.
      shown: the impressions, if the log has them; None draws them (`sample_impressions`).
      n_items: items of the catalogue.
      negatives: items drawn beside each purchase.
      seed: of the drawing.

    Returns:
      The world, and counts: customers, purchases, dropped duplicates and, where impressions are
      drawn, purchases with too few items beside them.
    """
    tables = [bought] if shown is None else [bought, shown]
    names = (
        pa.concat_arrays([table.customers.cast(pa.string()) for table in tables]).unique().sort()
    )
    purchases = _distinct(bought, texts_in(names, bought.customers), n_items)
    notes = {
        "customers": len(names),
        "purchases": len(purchases.item_P),
        "repeated_purchases_dropped": len(bought.item_E) - len(purchases.item_P),
    }
    if shown is None:
        impressions, notes["purchases_short_of_negatives"] = sample_impressions(
            purchases, n_items=n_items, negatives=negatives, seed=seed
        )
    else:
        customer_B = texts_in(names, shown.customers)[shown.customer_E]
        impressions = Impressions(customer_B, shown.day_E, shown.item_E, shown.click_E)
    histories = dated_events(purchases.customer_P, purchases.day_P, len(names))
    sales = dated_events(purchases.item_P, purchases.day_P, n_items)
    return World(purchases, impressions, histories, sales), notes


def _distinct(bought: Events, number: np.ndarray, n_items: int) -> Purchases:
    """Sorted by customer, day and item, without duplicates, by way of one integer key."""
    first_day = int(bought.day_E.min()) if len(bought.day_E) else 0
    days = int(bought.day_E.max()) - first_day + 1 if len(bought.day_E) else 1
    key_P = number[bought.customer_E].astype(np.int64) * days
    key_P += bought.day_E - first_day
    key_P *= n_items
    key_P += bought.item_E
    key_P = np.unique(key_P)
    customer_day_P, item_P = np.divmod(key_P, n_items)
    customer_P, day_P = np.divmod(customer_day_P, days)
    return Purchases(*(c.astype(np.int32) for c in (customer_P, day_P + first_day, item_P)))
