"""Reader of the Amazon review sets: reviews as clicks, the published image features as content.

The sets of R. He and J. McAuley, as published (`dicm_jax.data.amazon.files`). A review stands for a
purchase. The protocol is that of all logs of purchases (`dicm_jax.data.purchases.protocol`):

- Impressions: every review of at least `least_rating` stars is a click of its user on its day (the
  times have no hours); beside it products that the user did not review that week, drawn by seed in
  proportion to what the others reviewed. Reviews of fewer stars are left out and counted.
- Behaviors: the products that the user reviewed so on strictly earlier days.
- Test: the days from the cut on.
- Products are those of such reviews, in the order of their ASIN. What metadata does not tell of one
  is a value of its own, and a product without a feature row has no image; both are counted.

Shape legend
    N   products        E   reviews        F   ID fields of one level
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.amazon.config import AmazonConfig
from dicm_jax.data.amazon.features import read_features
from dicm_jax.data.amazon.files import FEATURES, METADATA, REVIEWS, find
from dicm_jax.data.amazon.metadata import FIELDS, Metadata, read_metadata
from dicm_jax.data.amazon.reviews import Reviews, read_reviews
from dicm_jax.data.days import day_of
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.purchases.events import Events, texts_in
from dicm_jax.data.purchases.groups import CONTEXT_FIELDS, USER_FIELDS
from dicm_jax.data.purchases.protocol import Window, check_arguments, check_cut, splits
from dicm_jax.data.purchases.world import world_of
from dicm_jax.data.schema import NO_IMAGE, ClickLog, IdField, Items
from dicm_jax.data.statistics import N_BUCKETS
from dicm_jax.errors import DataError

_PRODUCT = "product"
_SOURCE = "Amazon data"


def load(
    path: str,
    *,
    behaviors: int = 50,
    permute_images: bool = False,
    negatives: int = 4,
    seed: int = 0,
    validation_days: int = 0,
    config: AmazonConfig | None = None,
) -> ClickLog:
    """Reads the set in folder `path` as a click log.

    ``cold_B`` of the test split marks products that nobody reviewed before the cut.

    Args:
      path: the folder.
      behaviors: the most behaviors of a group; older ones are left out.
      permute_images: give the products each other's images, shuffled by `seed`; IDs stay.
      negatives: products drawn beside each review.
      seed: of the drawing and the shuffling.
      validation_days: for tuning without a look at the test split: above 0, the cut moves back by
        that many days, and nothing dated from it on is used.
      config: the settings of this reader; None takes the defaults.

    Raises:
      DataError: a missing or unreadable file, a bad line (with its number), a product twice, a bad
        rating or time, a truncated file of features, NaN, an empty split, an impossible argument.

    Example:
      >>> amazon.load("data/amazon-men").fields_of("item")[0].name
      'product'
    """
    check_arguments(
        _SOURCE,
        behaviors=behaviors,
        negatives=negatives,
        seed=seed,
        validation_days=validation_days,
    )
    root, settings = Path(path), config or AmazonConfig()
    paths = _paths(root, settings)
    reviews = read_reviews(paths["reviews"])
    clicks, asins = _clicks(paths["reviews"], reviews, settings.least_rating)
    features, image_N, unused_rows = read_features(root, paths["features"], asins)
    metadata = read_metadata(paths.get("metadata"), asins.to_pylist())

    end_day = _cut_day(clicks.day_E, settings)
    cut_day = end_day - validation_days
    used = clicks.before(end_day) if validation_days else clicks
    check_cut(_SOURCE, used.day_E, end_day, cut_day)
    world, counts = world_of(used, None, len(asins), negatives=negatives, seed=seed)
    train, test, split_notes = splits(world, len(asins), Window(cut_day), behaviors=behaviors)
    notes = {
        "reviews": len(reviews.user_E),
        "reviews_below_least_rating": len(reviews.user_E) - len(clicks.item_E),
        **counts,
        "products": len(asins),
        "products_without_metadata": int((~metadata.listed_N).sum()),
        "metadata_without_reviews": metadata.unreviewed,
        "items_without_image": int((image_N == NO_IMAGE).sum()),
        "features_without_item": unused_rows,
        **split_notes,
    }
    if permute_images:
        image_N = permuted_images(image_N, seed)
    sizes, ids_NF = _item_ids(metadata)
    return ClickLog(
        name="amazon",
        fields=_fields(),
        vocabulary_sizes=sizes | dict.fromkeys((*USER_FIELDS, *CONTEXT_FIELDS), N_BUCKETS),
        items=Items(ids_NF=ids_NF, image_N=image_N),
        features=features,
        train=train,
        test=test,
        notes={name: float(value) for name, value in notes.items()},
    )


def _paths(root: Path, settings: AmazonConfig) -> dict[str, Path]:
    """The files to read; without metadata where there is none."""
    asked = {
        "reviews": (settings.reviews, REVIEWS),
        "features": (settings.features, FEATURES),
        "metadata": (settings.metadata, METADATA),
    }
    found = {
        name: find(root, given, patterns, f"data.amazon.{name}", needed=name != "metadata")
        for name, (given, patterns) in asked.items()
    }
    return {name: path for name, path in found.items() if path is not None}


def _clicks(path: Path, reviews: Reviews, least_rating: float) -> tuple[Events, pa.Array]:
    """The reviews that count, and the products that they are of, in the order of their ASIN."""
    kept_E = reviews.rating_E >= least_rating
    if not kept_E.any():
        raise DataError(
            f"{path}: none of {len(kept_E)} reviews has {least_rating:g} stars or more, the best "
            f"has {reviews.rating_E.max():g}; set a smaller data.amazon.least_rating"
        )
    product_E = reviews.product_E[kept_E]
    asins = reviews.asins.take(pa.array(np.unique(product_E))).sort()
    events = Events(
        customers=reviews.users.take(pa.array(np.unique(reviews.user_E[kept_E]))),
        customer_E=np.unique(reviews.user_E[kept_E], return_inverse=True)[1].astype(np.int32),
        day_E=reviews.day_E[kept_E],
        item_E=texts_in(asins, reviews.asins)[product_E],
        click_E=np.ones(len(product_E), np.uint8),
    )
    return events, asins


def _cut_day(day_E: np.ndarray, settings: AmazonConfig) -> int:
    """First day of the test; by share, no day is divided."""
    if settings.cut is not None:
        return day_of(_SOURCE, settings.cut)
    first_of_test = int(len(day_E) * (1 - settings.test_share))
    return int(np.sort(day_E)[min(first_of_test, len(day_E) - 1)])


def _fields() -> tuple[IdField, ...]:
    return (
        *(IdField(name, name, "user") for name in USER_FIELDS),
        *(IdField(name, name, "item") for name in (_PRODUCT, *FIELDS)),
        *(IdField(name, name, "context") for name in CONTEXT_FIELDS),
        IdField("behavior_product", _PRODUCT, "behavior"),
        IdField("behavior_category", "category", "behavior"),
    )


def _item_ids(metadata: Metadata) -> tuple[dict[str, int], np.ndarray]:
    """Sizes and keys of the item level fields; values are numbered in sorted order."""
    n_products = len(metadata.listed_N)
    keys, sizes = [np.arange(n_products)], {_PRODUCT: n_products}
    for name in FIELDS:
        values, keys_N = np.unique(metadata.columns[name], return_inverse=True)
        keys.append(keys_N)
        sizes[name] = len(values)
    return sizes, np.column_stack(keys).astype(np.int32)
