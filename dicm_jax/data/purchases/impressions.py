"""Impressions for a log of purchases alone: each purchase a click, popular items beside it.

A purchase says what was taken, not what was passed over. The popular items of the same week
stand in for the latter: they are drawn as often as they were bought, so popularity alone says
little about the click, and what is left to learn is taste.

A *week* is a block of 7 days counted from the first day of the log, not a window around the
purchase: that is how the fixed impressions published beside small versions of the set were drawn.

Shape legend
    P   purchases of the whole log    R   purchases of one week (requests)
    B   impressions                   K   candidate draws
"""

import dataclasses
import itertools

import numpy as np

WEEK_DAYS = 7
_MOST_CANDIDATES = 1 << 22


@dataclasses.dataclass(frozen=True)
class Purchases:
    """Purchases without duplicates of (customer, day, item), sorted by that triple.

    All int32: index of the customer, days since 1970-01-01, index of the item.
    """

    customer_P: np.ndarray
    day_P: np.ndarray
    item_P: np.ndarray


@dataclasses.dataclass(frozen=True)
class Impressions:
    """Impressions in any order; `click_B` is uint8, the rest int32 as in `Purchases`."""

    customer_B: np.ndarray
    day_B: np.ndarray
    item_B: np.ndarray
    click_B: np.ndarray


def sample_impressions(
    purchases: Purchases, *, n_items: int, negatives: int, seed: int
) -> tuple[Impressions, int]:
    """Every purchase as a click, with `negatives` distinct items that were not bought.

    The negatives of a purchase are drawn one after the other, without replacement, from the
    purchases of its week by all customers, leaving out every item that its customer bought in
    that week. Each week has a generator of its own, so a longer log keeps the impressions of
    earlier weeks, and the place of the click within its request is random.

    Returns:
      The impressions, in order of day, customer and request; and the number of purchases with
      fewer than `negatives` negatives, because their week offers no more items.
    """
    order_P = np.lexsort((purchases.item_P, purchases.customer_P, purchases.day_P))
    customer_P, day_P, item_P = (
        column[order_P] for column in (purchases.customer_P, purchases.day_P, purchases.item_P)
    )
    week_P = (day_P - day_P[0]) // WEEK_DAYS
    edges = np.flatnonzero(np.diff(week_P, prepend=-1, append=week_P[-1] + 1))
    parts, short = [], 0
    for start, end in itertools.pairwise(edges):
        week = slice(start, end)
        rng = np.random.default_rng((seed, int(week_P[start])))
        request_B, item_B, click_B = _sample_week(
            rng, customer_P[week], item_P[week], n_items=n_items, negatives=negatives
        )
        counts_R = np.bincount(request_B, minlength=end - start)
        short += int((counts_R < 1 + negatives).sum())
        parts.append((customer_P[week][request_B], day_P[week][request_B], item_B, click_B))
    return Impressions(*(np.concatenate(column) for column in zip(*parts, strict=True))), short


def _sample_week(
    rng: np.random.Generator,
    customer_R: np.ndarray,
    item_R: np.ndarray,
    *,
    n_items: int,
    negatives: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Request, item and label of each impression of one week."""
    pairs = _draw_negatives(rng, customer_R, item_R, n_items=n_items, negatives=negatives)
    request_B = np.concatenate([np.arange(len(item_R)), pairs // n_items])
    item_B = np.concatenate([item_R, (pairs % n_items).astype(np.int32)])
    click_B = (np.arange(len(request_B)) < len(item_R)).astype(np.uint8)
    # Were the click always first, the order within a group would give the label away.
    shuffled_B = np.lexsort((rng.random(len(request_B)), request_B))
    return request_B[shuffled_B], item_B[shuffled_B], click_B[shuffled_B]


def _draw_negatives(
    rng: np.random.Generator,
    customer_R: np.ndarray,
    item_R: np.ndarray,
    *,
    n_items: int,
    negatives: int,
) -> np.ndarray:
    """Drawn (request, item) pairs as sorted ``request * n_items + item``.

    Picking purchases uniformly picks items by popularity; passing over what the customer owns
    and what the request already has makes it a draw without replacement from the others.
    """
    n_requests = len(item_R)
    owned = np.unique(customer_R.astype(np.int64) * n_items + item_R)
    customers, owned_counts = np.unique(owned // n_items, return_counts=True)
    offered_R = len(np.unique(item_R)) - owned_counts[np.searchsorted(customers, customer_R)]
    missing_R = np.minimum(negatives, offered_R)
    taken = np.empty(0, np.int64)
    candidates = 2 * negatives
    while len(open_requests := np.flatnonzero(missing_R)):
        # Growing rounds end even where one item outweighs all that are still on offer.
        candidates = min(candidates, max(negatives, _MOST_CANDIDATES // len(open_requests)))
        request_K = np.repeat(open_requests, candidates)
        drawn_K = item_R[rng.integers(n_requests, size=len(request_K))]
        pair_K = request_K * n_items + drawn_K
        first_K = np.sort(np.unique(pair_K, return_index=True)[1])
        bought_K = _contains(
            owned, customer_R[request_K[first_K]].astype(np.int64) * n_items + drawn_K[first_K]
        )
        kept_K = first_K[~bought_K & ~_contains(taken, pair_K[first_K])]
        kept_K = kept_K[_rank_within(request_K[kept_K]) < missing_R[request_K[kept_K]]]
        missing_R = missing_R - np.bincount(request_K[kept_K], minlength=n_requests)
        taken = np.sort(np.concatenate([taken, pair_K[kept_K]]))
        candidates *= 2
    return taken


def _contains(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is among `sorted_values`."""
    if not len(sorted_values):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(sorted_values, values), len(sorted_values) - 1)
    return sorted_values[at] == values


def _rank_within(owner_K: np.ndarray) -> np.ndarray:
    """Position of each entry among those of its owner; owners come in runs."""
    starts = np.flatnonzero(np.diff(owner_K, prepend=-1))
    return np.arange(len(owner_K)) - np.repeat(starts, np.diff(starts, append=len(owner_K)))
