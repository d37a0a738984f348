"""What a content row is drawn from where there is no photo of it.

Shape legend
    V   rows of the feature table               D   content width           C   coordinates
"""

import numpy as np

from dicm_jax.data.schema import Features, StoredFeatures
from dicm_jax.features.table_files import open_table

LOOKS = 6
"""Coordinates from which a picture is drawn where there is no photo."""
_MOST_ROWS = 2000


def looks(features: Features | StoredFeatures, rows: list[int]) -> np.ndarray:
    """First principal coordinates of image rows, ``[len(rows), LOOKS]``, of variance about one.

    Taken over at most 2,000 evenly chosen rows of the table, standardised per channel; a table with
    fewer directions has zeros behind the last.
    """
    sampled = np.arange(0, features.count, -(-features.count // _MOST_ROWS))
    sampled_VD = _as_floats(features, sampled)
    mean_D, deviation_D = sampled_VD.mean(0), sampled_VD.std(0) + 1e-6
    _, _, direction_CD = np.linalg.svd((sampled_VD - mean_D) / deviation_D, full_matrices=False)
    direction_CD = direction_CD[:LOOKS]
    spread_C = ((sampled_VD - mean_D) / deviation_D @ direction_CD.T).std(0) + 1e-6
    wanted_VD = _as_floats(features, np.array(rows, np.int64))
    look_VC = (wanted_VD - mean_D) / deviation_D @ direction_CD.T / spread_C
    return np.pad(look_VC, ((0, 0), (0, LOOKS - look_VC.shape[1])))


def _as_floats(features: Features | StoredFeatures, rows: np.ndarray) -> np.ndarray:
    if isinstance(features, StoredFeatures):
        return open_table(features.folder).values(rows)
    values_VD = features.rows_VD[rows].astype(np.float32)
    return values_VD if features.scale_V is None else values_VD * features.scale_V[rows, None]
