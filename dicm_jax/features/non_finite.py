"""Find rows that no network can use."""

import numpy as np

_CHUNK_VALUES = 1 << 24
"""Values looked at in one go, so that a memory-mapped table is never read whole."""


def first_non_finite_row(rows_VD: np.ndarray) -> int | None:
    """Index of the first row that holds a NaN or an infinity, or None; reads in chunks."""
    if rows_VD.dtype.kind != "f" or not rows_VD.size:
        return None
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(rows_VD.shape[1:]))))
    for start in range(0, len(rows_VD), step):
        chunk = rows_VD[start : start + step]
        finite_V = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite_V.all():
            return start + int(np.argmin(finite_V))
    return None
