"""Where the photos of the H&M articles lie, for reports; training needs their features only."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.schema import NO_IMAGE


class Photos:
    """From an image row to the article's photo, in Kaggle's layout ``images/0NN/0NNNNNNNNN.jpg``.

    Args:
      root: the folder of the set.
      article_ids: the articles, in order.
      image_N: row of each article's image, before any shuffling.
    """

    def __init__(self, root: Path, article_ids: pa.Array, image_N: np.ndarray):
        self._root, self._article_ids = root, article_ids
        rows = int(image_N.max(initial=NO_IMAGE)) + 1
        self._article_V = np.full(rows, -1, np.int64)
        pictured = np.flatnonzero(image_N != NO_IMAGE)
        self._article_V[image_N[pictured]] = pictured

    def __call__(self, row: int) -> Path | None:
        """The file of a row's photo; None where there is no such article or no such file."""
        article = self._article_V[row] if 0 <= row < len(self._article_V) else -1
        if article < 0:
            return None
        name = self._article_ids[int(article)].as_py()
        path = self._root / "images" / name[:3] / f"{name}.jpg"
        return path if path.is_file() else None
