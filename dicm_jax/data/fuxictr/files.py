"""The files of one split of a FuxiCTR set: CSV, Parquet or NPZ, whole or in parts.

Shape legend
    E   rows of a file        Q   values of all sequences of a column
"""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dicm_jax.data.fuxictr.arrow import equals, lengths_of, parts_of
from dicm_jax.data.fuxictr.columns import Column
from dicm_jax.data.fuxictr.layout import Layout
from dicm_jax.errors import DataError

_SUFFIXES = (".parquet", ".csv", ".npz")


@dataclasses.dataclass(frozen=True)
class Sequences:
    """A column of sequences as CSR: row ``e`` has the values from ``offsets[e]`` on."""

    offsets: np.ndarray
    values_Q: pa.Array


@dataclasses.dataclass(frozen=True)
class Table:
    """The columns of a split that are read, by feature.

    Attributes:
      path: of the file, or of the folder of its parts.
      user_E: the user, as text.
      texts: categorical columns: int64 keys in an encoded set, else text.
      numbers: numeric columns, float64, NaN where there is nothing.
      sequences: the sequence columns.
      click_E: uint8.
    """

    path: Path
    user_E: pa.Array
    texts: dict[str, pa.Array]
    numbers: dict[str, np.ndarray]
    sequences: dict[str, Sequences]
    click_E: np.ndarray


def source_of(root: Path, split: str, given: str | None) -> Path:
    """The file of a split, or the folder of its Parquet parts.

    Raises:
      DataError: it is not there, or there are several.
    """
    if given is None:
        paths = [root / f"{split}{suffix}" for suffix in _SUFFIXES]
        found = [path for path in (*paths, root / split) if path.exists()]
    else:
        found = [path for path in (root / given,) if path.exists()]
    if len(found) != 1:
        beside = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        wanted = given or f"{split}.parquet, {split}.csv, {split}.npz or {split}/*.parquet"
        raise DataError(
            f"{root}: {len(found)} of {wanted} found among {beside}; give one, or name it with "
            f"data.fuxictr.{split}_file"
        )
    return found[0]


def read_table(path: Path, layout: Layout) -> Table:
    """Reads the columns of `layout`, rows in the order of the file.

    Raises:
      DataError: an unreadable file, a missing column, a line with too few parts (with its number),
        a key outside its vocabulary, a value that is no number, a label other than 0 and 1, no row.
    """
    columns = layout.read
    names = list(dict.fromkeys([column.reads for column in columns] + [layout.label]))
    found = _load(path, names)
    if not len(found[layout.label]):
        raise DataError(f"{path}: no row in it; give the full file")
    encoded = layout.columns.encoded
    texts, numbers, sequences = {}, {}, {}
    for column in columns:
        array = found[column.reads]
        if column.kind == "sequence":
            sequences[column.name] = _sequences(path, column, array, encoded)
        elif column.kind == "numeric":
            numbers[column.name] = _numbers(path, column, array)
        elif column.kind == "categorical":
            texts[column.name] = _keys(path, column, array) if encoded else _texts(column, array)
    return Table(
        path=path,
        user_E=_texts(layout.user, found[layout.user.reads]),
        texts=texts,
        numbers=numbers,
        sequences=sequences,
        click_E=_clicks(path, layout.label, found[layout.label]),
    )


def _load(path: Path, names: list[str]) -> dict[str, pa.Array]:
    """The columns as they stand in the file: CSV as text, Parquet and NPZ with their types."""
    try:
        if path.suffix == ".csv":
            return _load_csv(path, names)
        if path.suffix == ".npz":
            return _load_npz(path, names)
        return _load_parquet(path, names)
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); it may be cut short or of another format than its "
            "name says: write it again"
        ) from error


def _load_csv(path: Path, names: list[str]) -> dict[str, pa.Array]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        _check_columns(path, names, next(csv.reader(file), []))
    try:
        table = pyarrow.csv.read_csv(
            path,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                include_columns=names,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        _check_lines(path)
        raise
    return {name: table[name].combine_chunks() for name in names}


def _check_lines(path: Path) -> None:
    """Raises for the first line that has not as many parts as the header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        parts = len(next(lines, []))
        for line in lines:
            if line and len(line) != parts:
                raise DataError(
                    f"{path}, line {lines.line_num}: {len(line)} parts where the header has "
                    f"{parts}: {','.join(line)[:80]!r}; repair that line or write the file again"
                )


def _load_npz(path: Path, names: list[str]) -> dict[str, pa.Array]:
    with path.open("rb") as file, np.load(file) as arrays:
        _check_columns(path, names, arrays.files)
        found = {name: arrays[name] for name in names}
    return {
        name: pa.array(array)
        if array.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        for name, array in found.items()
    }


def _load_parquet(path: Path, names: list[str]) -> dict[str, pa.Array]:
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise DataError(f"{path}: no .parquet file in it; give the parts of the split")
    for part in parts:
        _check_columns(part, names, pyarrow.parquet.read_schema(part).names)
    table = pa.concat_tables([pyarrow.parquet.read_table(part, columns=names) for part in parts])
    return {name: table[name].combine_chunks() for name in names}


def _check_columns(path: Path, wanted: list[str], found: list[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"{path}: no column {missing[0]!r}, which the feature map names; columns found: "
            f"{list(found)}; write it, or leave it out with data.fuxictr.ignore"
        )


def _sequences(path: Path, column: Column, array: pa.Array, encoded: bool) -> Sequences:
    if not pa.types.is_nested(array.type):
        texts = pc.fill_null(array.cast(pa.large_string()), column.missing)
        array = parts_of(texts, column.splitter)
    offsets = np.concatenate([[0], np.cumsum(lengths_of(array))]).astype(np.int64)
    values = array.flatten()
    return Sequences(offsets, _keys(path, column, values) if encoded else _texts(column, values))


def _texts(column: Column, array: pa.Array) -> pa.Array:
    return pc.fill_null(array.cast(pa.large_string()), column.missing)


def _keys(path: Path, column: Column, array: pa.Array) -> pa.Array:
    """int64 keys, every one inside the vocabulary."""
    try:
        keys = array.cast(pa.int64())
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column {column.name!r} holds something that is not a key ({error}); an "
            "encoded set holds integers: encode it, or give dataset_config.yaml instead"
        ) from error
    if keys.null_count:
        row = pc.index(keys.is_null(), True).as_py()
        raise DataError(f"{path}: column {column.name!r} is empty at {row}; fill in a key")
    if not len(keys):
        return keys
    keys_Q = keys.to_numpy(zero_copy_only=False)
    wrong_Q = (keys_Q < 0) | (keys_Q >= (column.size or 0))
    if wrong_Q.any():
        at = int(np.argmax(wrong_Q))
        raise DataError(
            f"{path}: column {column.name!r} has key {keys_Q[at]} at {at}, but vocab_size "
            f"{column.size}; keys lie in [0, {column.size}): the file and the feature map must "
            "belong together"
        )
    return keys


def _numbers(path: Path, column: Column, array: pa.Array) -> np.ndarray:
    try:
        if pa.types.is_large_string(array.type):
            none = pa.scalar(None, array.type)
            array = pc.call_function("if_else", [pa.array(equals(array, "")), none, array])
        return pc.fill_null(array.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: numeric column {column.name!r} holds something that is no number ({error}); "
            "repair it, or make the column categorical"
        ) from error


def _clicks(path: Path, label: str, array: pa.Array) -> np.ndarray:
    try:
        values_E = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: label {label!r} is not a number ({error}); it is 0 or 1"
        ) from error
    valid_E = np.isin(values_E, (0, 1))
    if not valid_E.all():
        row = int(np.argmin(valid_E))
        raise DataError(
            f"{path}: {int((~valid_E).sum())} rows have a label {label!r} other than 0 and 1, "
            f"first {array[row].as_py()!r} in row {row}"
        )
    return values_E.astype(np.uint8)
