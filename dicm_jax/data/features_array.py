"""The array of content rows that goes with a catalogue: one row per photo, found by its item's ID.

Shape legend
    N   items of the catalogue        V   rows of the array        D   content width
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicm_jax.data.schema import Features
from dicm_jax.errors import DataError
from dicm_jax.features.array_file import ArrayNames, ArrayRows, check_count, open_array
from dicm_jax.features.non_finite import first_non_finite_row

_FOUND_ALONE = (".npz", ".npy")
_READ = (*_FOUND_ALONE, ".parquet")


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
    array = open_array(path, names)
    rows_VD, scale_V, row_ids = array
    if row_ids is None:
        _check_order(path, array, len(item_ids), names)
        row_ids = item_ids
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


def _check_order(path: Path, array: ArrayRows, n_items: int, names: ArrayNames) -> None:
    """Rows without IDs are those of the catalogue, in its order."""
    if names.catalogue is None:
        raise DataError(
            f"{path}: its rows say no {names.id}, and the {names.item}s have no order of "
            f"their own; save {names.id} and rows as an .npz"
        )
    check_count(path, array, n_items, f"{names.catalogue} names {n_items}", names)


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
