"""Reader of the H&M set: purchases of real people, with a photo of every article.

The set of the Kaggle competition "H&M Personalized Fashion Recommendations", in Kaggle's layout,
with a feature array beside it. The protocol is that of all logs of purchases
(`dicm_jax.data.purchases.protocol`), with the impressions of ``impressions.parquet`` where it is
present, else drawn in the same way by seed. Train on the days before the cut, test on the rest.

Shape legend
    N   articles             F   ID fields of one level
"""

from pathlib import Path

import numpy as np

from dicm_jax.data.days import day_of
from dicm_jax.data.hm.features import read_features
from dicm_jax.data.hm.files import Articles, read_articles, read_impressions, read_transactions
from dicm_jax.data.hm.photos import Photos
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.purchases.groups import CONTEXT_FIELDS, USER_FIELDS
from dicm_jax.data.purchases.protocol import (
    Window,
    check_arguments,
    check_cut,
    check_window,
    splits,
)
from dicm_jax.data.purchases.world import world_of
from dicm_jax.data.schema import NO_IMAGE, ClickLog, IdField, Items
from dicm_jax.data.statistics import N_BUCKETS

_IMAGE = "image"
_SOURCE = "H&M data"


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
    train_days: int = 0,
    test_days: int = 0,
) -> ClickLog:
    """Reads the set in folder `path` as a click log.

    ``cold_B`` of the test split marks articles never sold before the cut.

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
      train_days, test_days: days before and from the cut on that make the splits; 0 for all. What
        lies before the train split still counts as behaviors and in statistics.

    Raises:
      DataError: missing or unreadable file, missing column, arrays that do not fit together, NaN,
        unknown article, bad label or date, an empty split, an impossible argument.
    """
    check_arguments(
        _SOURCE,
        behaviors=behaviors,
        negatives=negatives,
        seed=seed,
        validation_days=validation_days,
    )
    root, end_day = Path(path), day_of(_SOURCE, cut)
    cut_day = end_day - validation_days
    articles = read_articles(root)
    n_items = len(articles.ids)
    features, image_N = read_features(root, feature_file, articles.ids)
    transactions = read_transactions(root, articles.ids)
    given = read_impressions(root, articles.ids)
    if validation_days:
        transactions = transactions.before(end_day)
        given = None if given is None else given.before(end_day)
    window = Window(
        first_day=cut_day - train_days if train_days else None,
        cut_day=cut_day,
        end_day=cut_day + test_days if test_days else None,
    )
    shown = transactions if given is None else given
    check_cut(_SOURCE, shown.day_E, end_day, cut_day)
    check_window(_SOURCE, shown.day_E, window)
    world, counts = world_of(transactions, given, n_items, negatives=negatives, seed=seed)
    train, test, split_notes = splits(world, n_items, window, behaviors=behaviors)
    notes = {
        **counts,
        "articles": n_items,
        "items_without_image": int((image_N == NO_IMAGE).sum()),
        "features_without_item": len(features.rows_VD) - int((image_N != NO_IMAGE).sum()),
        **split_notes,
    }
    photos = Photos(root, articles.ids, image_N)
    if permute_images:
        image_N = permuted_images(image_N, seed)
    fields, sizes = _fields(articles)
    ids_NF = np.column_stack([np.arange(n_items, dtype=np.int32), articles.keys_NF])
    items = Items(ids_NF=ids_NF, image_N=image_N)
    notes = {name: float(value) for name, value in notes.items()}
    return ClickLog(
        name="hm",
        fields=fields,
        vocabulary_sizes=sizes,
        items=items,
        features=features,
        train=train,
        test=test,
        notes=notes,
        ids={_IMAGE: lambda: articles.ids},
        photo=photos,
    )


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
