"""Columns of text from CSV and Parquet files; numbers stay as they are written."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dicm_jax.errors import DataError

SUFFIXES = (".csv", ".parquet")


def read_text_columns(path: Path, columns: Sequence[str]) -> list[pa.Array]:
    """Reads columns as text; IDs of a CSV file keep their leading zeros.

    Raises:
      DataError: an unreadable file, a column missing, neither text nor integers, or with gaps.
    """
    try:
        table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as {path.suffix} ({error}); make it again"
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: no column {missing[0]!r}, found {table.column_names}; it must have "
            f"{' and '.join(columns)}"
        )
    return [_text(path, name, table.column(name)) for name in columns]


def _parquet(path: Path) -> pa.Table:
    return pyarrow.parquet.read_table(path)


def _csv(path: Path, columns: Sequence[str]) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    return pyarrow.csv.read_csv(path, convert_options=options)


def _text(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(
            f"{path}: column {name!r} is {column.type}; expected text or integers: write it as one"
        )
    if column.null_count:
        raise DataError(
            f"{path}: column {name!r} is empty in {column.null_count} of {len(column)} lines; "
            "fill or drop them"
        )
    text = column.cast(pa.string())
    return pa.concat_arrays(text.chunks) if text.num_chunks else pa.array([], pa.string())
