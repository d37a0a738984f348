"""The feature array that goes with the H&M articles: one content row per photo.

Shape legend
    N   articles        V   rows of the array        D   content width
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.hm_files import ARTICLES, find, texts_in
from dicm_jax.data.schema import Features
from dicm_jax.data.validate import first_non_finite_row
from dicm_jax.errors import DataError

_SUFFIXES = (".npz", ".npy")


def read_features(
    root: Path, feature_file: str | None, article_ids: pa.Array
) -> tuple[Features, np.ndarray]:
    """Reads the feature array and finds the row of each article.

    An ``.npz`` holds ``article_id`` (text ``[V]``), ``rows`` ``[V, D]`` and, where the rows are
    integers, usually ``scale`` ``[V]``: feature = rows * scale. An ``.npy`` holds ``[N, D]`` in
    the order of ``articles.csv`` and is mapped into memory, not read.

    Args:
      root: the folder of the set.
      feature_file: its name in `root`, or a path; None takes the one ``.npz`` or ``.npy`` there.
      article_ids: the articles, in order.

    Returns:
      The features, and int32 ``[N]``: the row of each article, -1 for an article without one.

    Raises:
      DataError: no file or several, unreadable file, parts whose lengths differ, wrong dims or
        dtype, an article with two rows, NaN or infinity.
    """
    path = _find_array(root, feature_file)
    rows_VD, scale_V, row_ids = _load(path)
    if rows_VD.ndim != 2 or not rows_VD.shape[1] or rows_VD.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: rows are {rows_VD.dtype} of shape {rows_VD.shape}; expected numbers "
            "[articles, feature width]"
        )
    row_ids = article_ids if row_ids is None else row_ids
    _check_lengths(path, rows_VD, scale_V, len(row_ids))
    _check_finite(path, rows_VD, scale_V, row_ids)
    if rows_VD.dtype.kind == "f":
        rows_VD = rows_VD.astype(np.float32, copy=False)
    elif scale_V is None:
        scale_V = np.ones(len(rows_VD), np.float32)
    return Features(rows_VD, scale_V), _row_of_article(path, row_ids, article_ids)


def _find_array(root: Path, feature_file: str | None) -> Path:
    if feature_file is not None:
        given = root / feature_file
        return find(given.parent, given.name)
    found = sorted(entry.name for entry in root.iterdir() if entry.suffix in _SUFFIXES)
    if len(found) != 1:
        beside = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        raise DataError(
            f"{root}: {len(found)} feature arrays ({' or '.join(_SUFFIXES)}) found, "
            f"{found or beside}; put one there, or name the one to take as feature_file"
        )
    return root / found[0]


def _load(path: Path) -> tuple[np.ndarray, np.ndarray | None, pa.Array | None]:
    """Rows, scale and article IDs; the latter two may be absent."""
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r"), None, None
        with path.open("rb") as file, np.load(file) as arrays:
            missing = [name for name in ("article_id", "rows") if name not in arrays.files]
            if missing:
                raise DataError(
                    f"{path}: no array {missing[0]!r}; arrays found: {arrays.files}; save it with "
                    "article_id, rows and, for integer rows, scale"
                )
            scale_V = arrays["scale"] if "scale" in arrays.files else None
            return arrays["rows"], scale_V, _ids(path, arrays["article_id"])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read as a NumPy array file ({error}); it may be cut short: make or "
            "download it again"
        ) from error


def _ids(path: Path, ids_V: np.ndarray) -> pa.Array:
    if ids_V.dtype.kind not in "SU" or ids_V.ndim != 1:
        raise DataError(
            f"{path}: article_id is {ids_V.dtype} of shape {ids_V.shape}; expected text [rows], "
            "each with its leading zero"
        )
    return pa.array(ids_V.astype(np.str_), pa.string())


def _check_lengths(path: Path, rows_VD: np.ndarray, scale_V: np.ndarray | None, n_ids: int) -> None:
    of_ids = f"{ARTICLES} names {n_ids}" if path.suffix == ".npy" else f"article_id has {n_ids}"
    if len(rows_VD) != n_ids:
        raise DataError(
            f"{path}: rows has shape {rows_VD.shape}, but {of_ids} articles; there must be one row "
            "for each"
        )
    if scale_V is None:
        return
    if scale_V.shape != (len(rows_VD),) or scale_V.dtype != np.float32:
        raise DataError(
            f"{path}: scale is {scale_V.dtype} of shape {scale_V.shape}, rows has shape "
            f"{rows_VD.shape}; expected float32 {(len(rows_VD),)}"
        )


def _check_finite(
    path: Path, rows_VD: np.ndarray, scale_V: np.ndarray | None, row_ids: pa.Array
) -> None:
    for name, array in (("rows", rows_VD), ("scale", scale_V)):
        row = None if array is None else first_non_finite_row(array)
        if row is not None:
            raise DataError(
                f"{path}: NaN or infinity in {name}, first at article {row_ids[row].as_py()!r} "
                f"(row {row}); make that row again or leave the article out"
            )


def _row_of_article(path: Path, row_ids: pa.Array, article_ids: pa.Array) -> np.ndarray:
    repeated = len(row_ids) - len(row_ids.unique())
    if repeated:
        raise DataError(
            f"{path}: {repeated} of {len(row_ids)} rows repeat an article_id; keep one row for each"
        )
    return texts_in(row_ids, article_ids)
