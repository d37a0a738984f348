"""The image features of the products of an Amazon log.

Shape legend
    N   products of the log        V   rows of the file        D   content width
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data import features_array
from dicm_jax.data.purchases.events import texts_in
from dicm_jax.data.schema import NO_IMAGE, Features
from dicm_jax.errors import DataError
from dicm_jax.features.amazon_file import map_amazon_features

_NAMES = features_array.ArrayNames(id="asin", item="product", catalogue=None)


def read_features(root: Path, path: Path, asins: pa.Array) -> tuple[Features, np.ndarray, int]:
    """Finds the row of each product.

    A file covers all products of a category, the 5-core of the reviews only some of them. Where the
    log has fewer than half of the rows, these are copied out; else the rows stay on disk.

    Args:
      root: the folder of the set.
      path: ``.b`` (`dicm_jax.features.amazon_file`), or an array with asin and rows.
      asins: the products.

    Returns:
      The rows; int32 ``[N]``, the row of each product or `NO_IMAGE`; and the number of rows of the
      file that belong to no product of the log.

    Raises:
      DataError: an unreadable or damaged file, a product twice, NaN; no product has a row.
    """
    if path.suffix == ".b":
        row_asins, rows_VD = map_amazon_features(path)
        features = Features(rows_VD)
        image_N = texts_in(pa.array(row_asins, pa.string()), asins)
    else:
        features, image_N = features_array.read_features(root, str(path.absolute()), asins, _NAMES)
    used = np.unique(image_N[image_N != NO_IMAGE])
    if not len(used):
        raise DataError(
            f"{path}: none of its {len(features.rows_VD)} rows is of a product of the reviews, "
            f"such as {asins[0].as_py()!r}; the files must be of one category"
        )
    unused = len(features.rows_VD) - len(used)
    if unused > len(used):
        features, image_N = _only(features, image_N, used)
    return features, image_N, unused


def _only(features: Features, image_N: np.ndarray, used: np.ndarray) -> tuple[Features, np.ndarray]:
    """The rows `used`, sorted, alone, and the products' places in them."""
    scale_V = features.scale_V
    place_N = np.where(image_N == NO_IMAGE, NO_IMAGE, np.searchsorted(used, image_N))
    chosen = Features(features.rows_VD[used], None if scale_V is None else scale_V[used])
    return chosen, place_N.astype(np.int32)
