"""The feature array that goes with the H&M articles: one content row per photo."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data import features_array
from dicm_jax.data.hm.files import ARTICLES
from dicm_jax.data.schema import Features

_NAMES = features_array.ArrayNames(
    id="article_id",
    item="article",
    catalogue=ARTICLES,
    text_because="each with its leading zero",
)


def read_features(
    root: Path, feature_file: str | None, article_ids: pa.Array
) -> tuple[Features, np.ndarray]:
    """Reads the array (`dicm_jax.data.features_array`), whose IDs are ``article_id``, text.

    Returns:
      The features, and int32 ``[N]``: the row of each article, -1 for an article without one.

    Raises:
      DataError: as `features_array.read_features`.
    """
    return features_array.read_features(root, feature_file, article_ids, _NAMES)
