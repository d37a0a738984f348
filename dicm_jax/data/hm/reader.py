"""Reader of the H&M set: purchases of real people, with a photo of every article.

The set of the Kaggle competition "H&M Personalized Fashion Recommendations", in Kaggle's layout,
with a feature array beside it. The protocol:

- Impressions: ``impressions.parquet`` where it is present, else drawn in the same way by seed
  (`dicm_jax.data.hm.impressions`). Train on the days before the cut, test on the rest.
- Behaviours of an impression: the customer's purchases of strictly earlier days, duplicates of
  (customer, day, article) dropped, the newest 50; oldest first, within a day by article.
- Group: the impressions of one customer on one day, which share all of that. Groups come in the
  order of day and customer.
- Statistics, as bucketed ID fields, count duplicates once too and know strictly earlier days only:
  an article's sales so far and days since its first sale; a customer's number of purchases and
  days since the last.

Shape legend
    N   articles             G   groups           B   impressions (one split)
    P   purchases            H   behaviours       F   ID fields of one level
"""

import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.hm.features import read_features
from dicm_jax.data.hm.files import (
    Articles,
    Events,
    read_articles,
    read_impressions,
    read_transactions,
    texts_in,
)
from dicm_jax.data.hm.groups import CONTEXT_FIELDS, USER_FIELDS, World, grouped
from dicm_jax.data.hm.impressions import Impressions, Purchases, sample_impressions
from dicm_jax.data.hm.photos import Photos
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.schema import NO_IMAGE, ClickLog, GroupedImpressions, IdField, Items
from dicm_jax.data.statistics import N_BUCKETS, dated_events
from dicm_jax.errors import DataError

_IMAGE = "image"
_EPOCH = datetime.date(1970, 1, 1)


def load(
    path: str,
    *,
    behaviors: int = 50,
    cut: str = "2020-05-17",
    permute_images: bool = False,
    negatives: int = 4,
    seed: int = 0,
    feature_file: str | None = None,
    validation_days: int = 0,
) -> ClickLog:
    """Reads the set in folder `path` as a click log.

    ``cold_B`` of the test split marks articles never sold before the cut. Such an article may
    have been *shown* in the last days of training, as a negative from a week that the cut divides;
    the note ``train_impressions_of_unsold`` counts these. In train it is False throughout.

    Args:
      path: the folder.
      behaviors: the most behaviours of a group; older purchases are left out.
      cut: first day of the test split, YYYY-MM-DD.
      permute_images: give the articles each other's photos, shuffled by `seed`; IDs stay. The
        control for every claim about images.
      negatives: articles drawn beside each purchase where impressions are not given.
      seed: of the drawing and the shuffling.
      feature_file: the feature array, where the folder has not exactly one.
      validation_days: for tuning without a look at the test split: above 0, the cut moves back by
        that many days, and nothing dated from `cut` on is used.

    Raises:
      DataError: missing or unreadable file, missing column, arrays that do not fit together, NaN,
        unknown article, bad label or date, an empty split, an impossible argument.
    """
    _check_arguments(
        behaviors=behaviors, negatives=negatives, seed=seed, validation_days=validation_days
    )
    root, end_day = Path(path), _day(cut)
    cut_day = end_day - validation_days
    articles = read_articles(root)
    features, image_N = read_features(root, feature_file, articles.ids)
    transactions = read_transactions(root, articles.ids)
    given = read_impressions(root, articles.ids)
    if validation_days:
        transactions = transactions.before(end_day)
        given = None if given is None else given.before(end_day)
    _check_cut((transactions if given is None else given).day_E, cut, cut_day)
    world, counts = _world(transactions, given, len(articles.ids), negatives=negatives, seed=seed)

    item_N = np.arange(len(articles.ids))
    unsold_N = world.sales.count(item_N, np.full(len(item_N), cut_day)) == 0
    train_B = world.impressions.day_B < cut_day
    train = grouped(world, train_B, behaviors=behaviors)
    test = grouped(world, ~train_B, behaviors=behaviors)
    test = dataclasses.replace(test, cold_B=unsold_N[test.item_B])
    notes = {
        **counts,
        "articles": len(item_N),
        "items_without_image": int((image_N == NO_IMAGE).sum()),
        "features_without_item": len(features.rows_VD) - int((image_N != NO_IMAGE).sum()),
        "train_impressions_of_unsold": int(unsold_N[train.item_B].sum()),
        "cold_share_of_test_clicks": _share(test.cold_B[test.click_B == 1]),
        **_split_notes("train", train),
        **_split_notes("test", test),
    }
    photos = Photos(root, articles.ids, image_N)
    if permute_images:
        image_N = permuted_images(image_N, seed)
    fields, sizes = _fields(articles)
    ids_NF = np.column_stack([item_N.astype(np.int32), articles.keys_NF])
    items = Items(ids_NF=ids_NF, image_N=image_N)
    notes = {name: float(value) for name, value in notes.items()}
    return ClickLog("hm", fields, sizes, items, features, train, test, notes=notes, photo=photos)


def _check_arguments(*, behaviors: int, negatives: int, seed: int, validation_days: int) -> None:
    for name, value, least in (
        ("seed", seed, 0),
        ("behaviors", behaviors, 0),
        ("negatives", negatives, 1),
        ("validation_days", validation_days, 0),
    ):
        if value < least:
            raise DataError(f"H&M data: {name}={value}; must be at least {least}")


def _day(text: str) -> int:
    """Days from 1970-01-01 to an ISO date."""
    try:
        return (datetime.date.fromisoformat(text) - _EPOCH).days
    except ValueError as error:
        raise DataError(f"H&M data: cut={text!r} is not a date; write it as YYYY-MM-DD") from error


def _date(day: int) -> str:
    return str(_EPOCH + datetime.timedelta(days=day))


def _check_cut(day_B: np.ndarray, cut: str, cut_day: int) -> None:
    if not len(day_B):
        raise DataError(
            f"H&M data: no impression before cut={cut!r}, where validation ends; set a later cut"
        )
    first, last = int(day_B.min()), int(day_B.max())
    for split, empty in (("train", first >= cut_day), ("test", last < cut_day)):
        if empty:
            raise DataError(
                f"H&M data: cut at {_date(cut_day)} leaves the {split} split empty; impressions "
                f"run from {_date(first)} to {_date(last)}: cut between these days"
            )


def _world(
    transactions: Events, given: Events | None, n_items: int, *, negatives: int, seed: int
) -> tuple[World, dict[str, int]]:
    """Purchases, impressions and past-only counts, with customers numbered in order of their ID."""
    tables = [transactions] if given is None else [transactions, given]
    names = (
        pa.concat_arrays([table.customers.cast(pa.string()) for table in tables]).unique().sort()
    )
    purchases = _purchases(transactions, texts_in(names, transactions.customers), n_items)
    notes = {
        "customers": len(names),
        "purchases": len(purchases.item_P),
        "repeated_purchases_dropped": len(transactions.item_E) - len(purchases.item_P),
    }
    if given is None:
        impressions, notes["purchases_short_of_negatives"] = sample_impressions(
            purchases, n_items=n_items, negatives=negatives, seed=seed
        )
    else:
        customer_B = texts_in(names, given.customers)[given.customer_E]
        impressions = Impressions(customer_B, given.day_E, given.item_E, given.click_E)
    histories = dated_events(purchases.customer_P, purchases.day_P, len(names))
    sales = dated_events(purchases.item_P, purchases.day_P, n_items)
    return World(purchases, impressions, histories, sales), notes


def _purchases(transactions: Events, number: np.ndarray, n_items: int) -> Purchases:
    """Sorted by customer, day and article, without duplicates, by way of one integer key."""
    first_day = int(transactions.day_E.min()) if len(transactions.day_E) else 0
    days = int(transactions.day_E.max()) - first_day + 1 if len(transactions.day_E) else 1
    key_P = number[transactions.customer_E].astype(np.int64) * days
    key_P += transactions.day_E - first_day
    key_P *= n_items
    key_P += transactions.item_E
    key_P = np.unique(key_P)
    customer_day_P, item_P = np.divmod(key_P, n_items)
    customer_P, day_P = np.divmod(customer_day_P, days)
    return Purchases(*(c.astype(np.int32) for c in (customer_P, day_P + first_day, item_P)))


def _fields(articles: Articles) -> tuple[tuple[IdField, ...], dict[str, int]]:
    fields = (
        *(IdField(name, name, "user") for name in USER_FIELDS),
        IdField(_IMAGE, _IMAGE, "item"),
        *(IdField(name, name, "item") for name in articles.sizes),
        *(IdField(name, name, "context") for name in CONTEXT_FIELDS),
        IdField("behavior_image", _IMAGE, "behavior"),
    )
    sizes = dict.fromkeys((*USER_FIELDS, *CONTEXT_FIELDS), N_BUCKETS)
    return fields, sizes | {_IMAGE: len(articles.ids)} | articles.sizes


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
