"""Files of content rows that any encoder made: ``[rows, width]`` numbers and, mostly, IDs.

| file | rows | IDs |
|---|---|---|
| ``.npy`` | the array, mapped | none |
| ``.npz`` | ``rows`` or ``value`` | under their name, or ``key`` |
| ``.parquet`` | the same, a list in each line | the same |
| ``.safetensors`` | the same, or the only matrix; mapped | the same, integers; may be missing |
| ``.b`` | of the Amazon review sets, mapped (`amazon_file`) | ASINs |

Integer rows may have a ``scale`` beside them: feature = row * scale. Pickled objects are refused.

Shape legend
    V   rows of the array        D   content width
"""

import dataclasses
import errno
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import safetensors

from dicm_jax.errors import DataError
from dicm_jax.features.amazon_file import map_amazon_features
from dicm_jax.features.mapped_safetensors import map_safetensors

_KEY_VALUE = ("key", "value")
"""What embedding files of other systems call the two arrays."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LINES = 4096  # of a Parquet file, read together


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
      hint: what else can be done about an array that is not found.
    """

    id: str
    item: str
    catalogue: str | None
    text_because: str | None = None
    hint: str = ""


class ArrayRows(NamedTuple):
    """What an array file holds.

    Attributes:
      rows_VD: features, or integers that `scale_V` turns into features.
      scale_V: factor of each row, or None.
      ids: of each row, text; None where the file has none.
    """

    rows_VD: np.ndarray
    scale_V: np.ndarray | None
    ids: pa.Array | None


def open_array(path: Path, names: ArrayNames, scratch: Path | None = None) -> ArrayRows:
    """Opens an array file.

    Args:
      path: one of the files above.
      names: of the items, in the file and in messages.
      scratch: a folder for rows that cannot be mapped where they are (``.npz``, ``.parquet``,
        bfloat16): they are copied there, a piece at a time, and mapped. None: they are read into
        memory.

    Raises:
      DataError: an unreadable file, arrays missing, rows that are no matrix of numbers, IDs of a
        wrong type, a number of IDs or of factors that is not that of the rows.
    """
    opened = _OPEN.get(path.suffix)
    if opened is None:
        raise DataError(
            f"{path}: a feature array is one of {', '.join(_OPEN)}; write it as one of these, "
            "e.g. numpy.savez(FILE, key=ids, value=rows)"
        )
    try:
        array = opened(path, names, scratch)
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise DataError(
                f"{scratch}: rows of {path} cannot be copied there ({error}); make room on that "
                "disk, and run the same command again"
            ) from error
        kind = "Parquet" if path.suffix == ".parquet" else "a NumPy array file"
        kind = "safetensors" if path.suffix == ".safetensors" else kind
        raise DataError(
            f"{path}: cannot be read as {kind} ({error}); it may be cut short: make or "
            "download it again"
        ) from error
    rows_VD = array.rows_VD
    if rows_VD.ndim != 2 or not rows_VD.shape[1] or rows_VD.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: rows are {rows_VD.dtype} of shape {rows_VD.shape}; expected numbers "
            f"[{names.item}s, feature width]"
        )
    if array.ids is not None:
        check_count(path, array, len(array.ids), f"{names.id} has {len(array.ids)}", names)
    return array


def check_count(path: Path, array: ArrayRows, count: int, found: str, names: ArrayNames) -> None:
    """Refuses an array without one row, and one factor, for each ID.

    Args:
      path: of the array.
      array: that was opened.
      count: of IDs.
      found: that many, in words.
      names: of the items.

    Raises:
      DataError: lengths differ.
    """
    rows_VD, scale_V = array.rows_VD, array.scale_V
    if len(rows_VD) != count:
        raise DataError(
            f"{path}: rows has shape {rows_VD.shape}, but {found} {names.item}s; there must be "
            "one row for each"
        )
    if scale_V is None:
        return
    if scale_V.shape != (len(rows_VD),) or scale_V.dtype != np.float32:
        raise DataError(
            f"{path}: scale is {scale_V.dtype} of shape {scale_V.shape}, rows has shape "
            f"{rows_VD.shape}; expected float32 {(len(rows_VD),)}"
        )


def _npy(path: Path, names: ArrayNames, scratch: Path | None) -> ArrayRows:
    return ArrayRows(np.load(path, mmap_mode="r"), None, None)


def _npz(path: Path, names: ArrayNames, scratch: Path | None) -> ArrayRows:
    with path.open("rb") as file, np.load(file) as arrays:
        found = list(arrays)
        id_name, rows_name = _named(path, found, names)
        ids = as_ids(path, arrays[id_name], names)
        scale_V = arrays["scale"] if "scale" in found else None
        if scratch is None:
            return ArrayRows(arrays[rows_name], scale_V, ids)
    copy = scratch / "rows.npy"
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(f"{rows_name}.npy") as rows,
        copy.open("wb") as file,
    ):
        shutil.copyfileobj(rows, file, 2**22)
    return ArrayRows(np.load(copy, mmap_mode="r"), scale_V, ids)


def _parquet(path: Path, names: ArrayNames, scratch: Path | None) -> ArrayRows:
    with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
        found = file.schema_arrow.names
        id_name, rows_name = _named(path, found, names)
        columns = file.read([id_name, *(["scale"] if "scale" in found else [])])
        ids = as_ids(path, _as_array(columns.column(id_name)), names)
        scale_V = _as_array(columns.column("scale")) if "scale" in found else None
        pieces = _matrices(path, file, rows_name)
        rows_VD = _in_memory(pieces) if scratch is None else _on_disk(pieces, scratch)
    return ArrayRows(rows_VD, scale_V, ids)


def _safetensors(path: Path, names: ArrayNames, scratch: Path | None) -> ArrayRows:
    tensors = map_safetensors(path)
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    id_name, rows_name = _KEY_VALUE if _KEY_VALUE[1] in tensors else (names.id, "rows")
    rows_name = matrices[0] if rows_name not in tensors and len(matrices) == 1 else rows_name
    if rows_name not in tensors:
        raise _missing(path, rows_name, list(tensors), names)
    rows_VD = tensors[rows_name]
    if rows_VD.dtype == ml_dtypes.bfloat16:
        starts = range(0, len(rows_VD), _LINES)
        pieces = (rows_VD[start : start + _LINES].astype(np.float32) for start in starts)
        rows_VD = _in_memory(pieces) if scratch is None else _on_disk(pieces, scratch)
    ids = as_ids(path, tensors[id_name], names) if id_name in tensors else None
    return ArrayRows(rows_VD, tensors.get("scale"), ids)


def _amazon(path: Path, names: ArrayNames, scratch: Path | None) -> ArrayRows:
    asins, rows_VD = map_amazon_features(path)
    return ArrayRows(rows_VD, None, pa.array(asins, pa.string()))


_OPEN = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".b": _amazon,
}
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    safetensors.SafetensorError,
)


def _named(path: Path, found: Sequence[str], names: ArrayNames) -> tuple[str, str]:
    """Under which names IDs and rows are: those of the set, or key and value."""
    wanted = _KEY_VALUE if set(_KEY_VALUE) <= set(found) else (names.id, "rows")
    for name in wanted:
        if name not in found:
            raise _missing(path, name, found, names)
    return wanted


def _missing(path: Path, name: str, found: Sequence[str], names: ArrayNames) -> DataError:
    return DataError(
        f"{path}: no array {name!r}; arrays found: {list(found)}; save it with {names.id}, rows "
        f"and, for integer rows, scale{names.hint and ', ' + names.hint}"
    )


def _as_array(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.to_numpy().astype(np.str_)
    return column.to_numpy()


def _matrices(path: Path, file: pyarrow.parquet.ParquetFile, name: str) -> Iterator[np.ndarray]:
    """A column of lists of one length, some lines at a time; other columns as they are."""
    line, width = 0, None
    for array in _batches(file, name):
        if not pa.types.is_nested(array.type) or not hasattr(array, "flatten"):
            yield array.to_numpy(zero_copy_only=False)
            continue
        lengths_V = pc.call_function("list_value_length", [array]).fill_null(0).to_numpy()
        width = int(lengths_V[0]) if width is None and len(lengths_V) else width
        if not (lengths_V == width).all():
            wrong = int(np.argmax(lengths_V != width))
            raise DataError(
                f"{path}: row {line + wrong} has {lengths_V[wrong]} values, row 0 has {width}; "
                "every row must have the same width"
            )
        line += len(array)
        yield array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)


def _batches(file: pyarrow.parquet.ParquetFile, name: str) -> Iterator[pa.Array]:
    """A column, some lines at a time. Over more than one group, Arrow would keep what it read."""
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(_LINES, row_groups=[group], columns=[name]):
            yield batch.column(0)


def _in_memory(pieces: Iterator[np.ndarray]) -> np.ndarray:
    found = list(pieces)
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


def _on_disk(pieces: Iterator[np.ndarray], scratch: Path) -> np.ndarray:
    """The pieces one after another in a file, mapped."""
    copy, count, dtype, rest = scratch / "rows.raw", 0, np.dtype(np.float32), (0,)
    with copy.open("wb") as file:
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)
            count, dtype, rest = count + len(piece), piece.dtype, piece.shape[1:]
    if not copy.stat().st_size:
        return np.zeros((count, *rest), dtype)
    return np.memmap(copy, dtype, mode="r", shape=(count, *rest))


def as_ids(path: Path, ids_V: np.ndarray, names: ArrayNames) -> pa.Array:
    """IDs as text.

    Raises:
      DataError: not text, or integers where those do.
    """
    kinds = "SU" if names.text_because else "SUiu"
    if ids_V.dtype.kind not in kinds or ids_V.ndim != 1:
        wanted = f"text [rows], {names.text_because}" if names.text_because else "integers or text"
        raise DataError(
            f"{path}: {names.id} is {ids_V.dtype} of shape {ids_V.shape}; expected {wanted}"
        )
    return pa.array(ids_V.astype(np.str_), pa.string())
