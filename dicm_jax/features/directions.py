"""Principal directions of a feature table, from which a compressor may start.

Shape legend
    N   rows looked at      D   content width      H   directions
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float

from dicm_jax.ams.feature_table import Statistics, standardized_chunks
from dicm_jax.errors import ConfigError

MOST_ROWS = 32_768
"""Rows looked at: enough for a few hundred directions; more would only cost time."""


def whitened_directions(
    rows_ND: np.ndarray,
    scale_N: np.ndarray | None,
    stats: Statistics,
    count: int,
) -> Float[np.ndarray, "D H"]:
    """The `count` leading principal directions of standardised rows, each divided by its deviation.

    A standardised row times the result has coordinates of variance one, the most telling first.

    Args:
      rows_ND: features, or integers that `scale_N` turns into features.
      scale_N: factor of each row, or None.
      stats: of the table.
      count: ``H``.

    Raises:
      ConfigError: the rows do not span that many directions.
    """
    step = -(-len(rows_ND) // MOST_ROWS)
    rows_ND, scale_N = rows_ND[::step], None if scale_N is None else scale_N[::step]
    width = rows_ND.shape[1]
    covariance_DD = np.zeros((width, width), np.float32)
    for chunk_ND in standardized_chunks(rows_ND, scale_N, stats):
        covariance_DD += chunk_ND.T @ chunk_ND
    covariance_DD /= len(rows_ND)
    first = max(width - count, 0)
    variance_H, direction_DH = scipy.linalg.eigh(
        covariance_DD, subset_by_index=(first, width - 1), overwrite_a=True, check_finite=False
    )
    usable = int(np.sum(variance_H > 1e-6 * variance_H[-1]))
    if usable < count:
        raise ConfigError(
            f"model.compressor_init='pca' with a first layer of {count}: the {len(rows_ND)} rows of"
            f" width {width} span {usable} directions; use a first layer of at most {usable}, or"
            " model.compressor_init='he'"
        )
    return (direction_DH / np.sqrt(variance_H))[:, ::-1].astype(np.float32)
