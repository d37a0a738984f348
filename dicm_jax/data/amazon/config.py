"""Settings of the Amazon reader."""

import dataclasses

from dicm_jax.config_values import setting


@dataclasses.dataclass(frozen=True)
class AmazonConfig:
    """Which files, and how reviews become impressions; described at `amazon.reader.load`."""

    reviews: str | None = setting(
        None, "file of reviews or ratings; None = the one reviews_*.json[.gz] or ratings_*.csv"
    )
    metadata: str | None = setting(
        None, "file of the products; None = the one meta_*.json[.gz], if there is one"
    )
    features: str | None = setting(
        None, "image features, .b, or an array (asin, rows); None = the one .b, .npz or .npy"
    )
    least_rating: float = setting(
        1.0, "stars from which on a review is a click; others are left out", at_least=1, at_most=5
    )
    cut: str | None = setting(None, "first day of the test, YYYY-MM-DD; None = by test_share")
    test_share: float = setting(
        0.2, "newest share of the reviews that is the test where cut is None", above=0, below=1
    )
