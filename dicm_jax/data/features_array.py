"""The array of content rows that goes with a catalogue: one row per photo, found by its item's ID.

Shape legend
    N   items of the catalogue        V   rows of the array        D   content width
"""

import dataclasses
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from dicm_jax.data.schema import Features
from dicm_jax.data.validate import first_non_finite_row
from dicm_jax.errors import DataError

_FOUND_ALONE = (".npz", ".npy")
_READ = (*_FOUND_ALONE, ".parquet")
_KEY_VALUE = ("key", "value")
"""What embedding files of other systems call the two arrays."""


@dataclasses.dataclass(frozen=True)
class ArrayNames:
    """What the items are called, in the file and in messages.

    Attributes:
      id: the array of IDs, e.g. ``"article_id"``.
      item: one item in words, e.g. ``"article"``.
      catalogue: the file or column that lists the items in order; None: they have no order of
        their own, so that an ``.npy`` has no meaning.
      text_because: why IDs must be text, e.g. ``"each with its leading zero"``; None: integers
        do as well, as the text that they are printed as.
    """

    id: str
    item: str
    catalogue: str | None
    text_because: str | None = None


def read_features(
    root: Path,
    feature_file: str | None,
    item_ids: pa.Array,
    names: ArrayNames,
    *,
    not_these: tuple[str, ...] = (),
) -> tuple[Features, np.ndarray]:
    """Reads the feature array and finds the row of each item.

    An ``.npz`` holds the IDs ``[V]`` (under `names.id`), ``rows`` ``[V, D]`` and, where the rows
    are integers, usually ``scale`` ``[V]``: feature = rows * scale. A ``.parquet`` file has columns
    of these names, ``rows`` a list in each line. In both, ``key`` and ``value`` may stand for the
    IDs and ``rows``. An ``.npy`` holds ``[N, D]`` in the order of the catalogue and is mapped into
    memory, not read.

    Args:
      root: the folder of the set.
      feature_file: its name in `root`, or a path; None takes the one ``.npz`` or ``.npy`` there.
      item_ids: the items, in order.
      names: of the items, in the file and in messages.
      not_these: files of `root` that are something else, by the name without its suffix.

    Returns:
      The features, and int32 ``[N]``: the row of each item, -1 for an item without one.

    Raises:
      DataError: no file or several, unreadable file, parts whose lengths differ, wrong dims or
        dtype, an item with two rows, NaN or infinity.
    """
    path = _find_array(root, feature_file, not_these)
    rows_VD, scale_V, row_ids = _load(path, names)
    if rows_VD.ndim != 2 or not rows_VD.shape[1] or rows_VD.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: rows are {rows_VD.dtype} of shape {rows_VD.shape}; expected numbers "
            f"[{names.item}s, feature width]"
        )
    row_ids = item_ids if row_ids is None else row_ids
    _check_lengths(path, rows_VD, scale_V, len(row_ids), names)
    _check_finite(path, rows_VD, scale_V, row_ids, names)
    if rows_VD.dtype.kind == "f":
        rows_VD = rows_VD.astype(np.float32, copy=False)
    elif scale_V is None:
        scale_V = np.ones(len(rows_VD), np.float32)
    return Features(rows_VD, scale_V), _row_of_item(path, row_ids, item_ids, names)


def _find_array(root: Path, feature_file: str | None, not_these: tuple[str, ...]) -> Path:
    beside = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    if feature_file is not None:
        path = root / feature_file
        if path.suffix not in _READ:
            raise DataError(
                f"{path}: a feature array is one of {', '.join(_READ)}; write it as one of these, "
                "e.g. numpy.savez(FILE, key=ids, value=rows)"
            )
        if not path.is_file():
            raise DataError(f"{path}: no such file; found {beside}; put {path.name} beside them")
        return path
    files = (entry for entry in root.iterdir() if entry.suffix in _FOUND_ALONE)
    found = sorted(entry.name for entry in files if entry.stem not in not_these)
    if len(found) != 1:
        raise DataError(
            f"{root}: {len(found)} feature arrays ({' or '.join(_FOUND_ALONE)}) found, "
            f"{found or beside}; put one there, or name the one to take as feature_file"
        )
    return root / found[0]


def _load(path: Path, names: ArrayNames) -> tuple[np.ndarray, np.ndarray | None, pa.Array | None]:
    """Rows, scale and IDs; the latter two may be absent."""
    try:
        if path.suffix == ".npy":
            if names.catalogue is None:
                raise DataError(
                    f"{path}: its rows say no {names.id}, and the {names.item}s have no order of "
                    f"their own; save {names.id} and rows as an .npz"
                )
            return np.load(path, mmap_mode="r"), None, None
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            return _parts(path, dict(zip(table.column_names, table.columns, strict=True)), names)
        with path.open("rb") as file, np.load(file) as arrays:
            return _parts(path, arrays, names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        kind = "Parquet" if path.suffix == ".parquet" else "a NumPy array file"
        raise DataError(
            f"{path}: cannot be read as {kind} ({error}); it may be cut short: make or "
            "download it again"
        ) from error


def _parts(
    path: Path, arrays: Mapping[str, Any], names: ArrayNames
) -> tuple[np.ndarray, np.ndarray | None, pa.Array]:
    """The parts of an array file, under the names of the set or as key and value."""
    found = list(arrays)
    wanted = _KEY_VALUE if set(_KEY_VALUE) <= set(found) else (names.id, "rows")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{path}: no array {missing[0]!r}; arrays found: {found}; save it with "
            f"{names.id}, rows and, for integer rows, scale"
        )
    scale_V = _matrix(path, arrays["scale"]) if "scale" in found else None
    ids = _ids(path, _matrix(path, arrays[wanted[0]]), names)
    return _matrix(path, arrays[wanted[1]]), scale_V, ids


def _matrix(path: Path, column: Any) -> np.ndarray:
    """An array as it is; a column of Parquet as an array, a column of lists as a matrix."""
    if isinstance(column, np.ndarray):
        return column
    array = column.combine_chunks()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.to_numpy(zero_copy_only=False).astype(np.str_)
    if not hasattr(array, "flatten") or not pa.types.is_nested(array.type):
        return array.to_numpy(zero_copy_only=False)
    lengths = pc.call_function("list_value_length", [array]).to_numpy(zero_copy_only=False)
    if len(lengths) and not (lengths == lengths[0]).all():
        row = int(np.argmax(lengths != lengths[0]))
        raise DataError(
            f"{path}: row {row} has {lengths[row]} values, row 0 has {lengths[0]}; every row must "
            "have the same width"
        )
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)


def _ids(path: Path, ids_V: np.ndarray, names: ArrayNames) -> pa.Array:
    kinds = "SU" if names.text_because else "SUiu"
    if ids_V.dtype.kind not in kinds or ids_V.ndim != 1:
        wanted = f"text [rows], {names.text_because}" if names.text_because else "integers or text"
        raise DataError(
            f"{path}: {names.id} is {ids_V.dtype} of shape {ids_V.shape}; expected {wanted}"
        )
    return pa.array(ids_V.astype(np.str_), pa.string())


def _check_lengths(
    path: Path, rows_VD: np.ndarray, scale_V: np.ndarray | None, n_ids: int, names: ArrayNames
) -> None:
    of_catalogue = path.suffix == ".npy"
    of_ids = f"{names.catalogue} names {n_ids}" if of_catalogue else f"{names.id} has {n_ids}"
    if len(rows_VD) != n_ids:
        raise DataError(
            f"{path}: rows has shape {rows_VD.shape}, but {of_ids} {names.item}s; there must be "
            "one row for each"
        )
    if scale_V is None:
        return
    if scale_V.shape != (len(rows_VD),) or scale_V.dtype != np.float32:
        raise DataError(
            f"{path}: scale is {scale_V.dtype} of shape {scale_V.shape}, rows has shape "
            f"{rows_VD.shape}; expected float32 {(len(rows_VD),)}"
        )


def _check_finite(
    path: Path,
    rows_VD: np.ndarray,
    scale_V: np.ndarray | None,
    row_ids: pa.Array,
    names: ArrayNames,
) -> None:
    for name, array in (("rows", rows_VD), ("scale", scale_V)):
        row = None if array is None else first_non_finite_row(array)
        if row is not None:
            raise DataError(
                f"{path}: NaN or infinity in {name}, first at {names.item} "
                f"{row_ids[row].as_py()!r} (row {row}); make that row again or leave the "
                f"{names.item} out"
            )


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _row_of_item(
    path: Path, row_ids: pa.Array, item_ids: pa.Array, names: ArrayNames
) -> np.ndarray:
    repeated = len(row_ids) - len(row_ids.unique())
    if repeated:
        raise DataError(
            f"{path}: {repeated} of {len(row_ids)} rows repeat {_one(names.id)}; keep one row for "
            "each"
        )
    options = pc.SetLookupOptions(value_set=row_ids.cast(pa.string()))
    index = pc.call_function("index_in", [item_ids.cast(pa.string())], options)
    return pc.fill_null(index, -1).to_numpy(zero_copy_only=False).astype(np.int32)
