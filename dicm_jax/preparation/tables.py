"""Log tables read a chunk at a time: Parquet or CSV, one file or many, larger than memory.

A table is cut into *fragments*, pieces that are read by themselves: a run of Parquet row groups, or
a CSV file. Fragments are numbered in the order of their files' names, and so are rows, whoever
reads them.
"""

import csv
import dataclasses
import difflib
import glob
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dicm_jax.errors import DataError

PARQUET, CSV = (".parquet", ".pq"), (".csv", ".csv.gz")
_CSV_BLOCK_BYTES = 1 << 24
_FILE_ROWS = 1 << 40
"""Numbers kept for the rows of one file, so that they are known before the files before it are."""


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A piece of a table.

    Attributes:
      table: ``impressions``, ``behaviors`` or ``users``.
      number: of the fragment in its table.
      path: the file.
      row_groups: of a Parquet file, from the first up to, but not including, the last; None: CSV.
      first_row: number of its first row in the file.
      file: number of the file in its table.
    """

    table: str
    number: int
    path: str
    row_groups: tuple[int, int] | None
    first_row: int
    file: int

    def row_number(self, row: int) -> int:
        """The number of a row of the fragment, ascending over the whole table."""
        return self.file * _FILE_ROWS + self.first_row + row


def files_of(table: str, path: str) -> list[Path]:
    """The files that `path` names: itself, those in a folder, or what a glob matches, sorted.

    Raises:
      DataError: there is none, or one of another kind.
    """
    place = Path(path)
    if place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.is_file() and _kind(file))
        listed = sorted(file.name for file in place.iterdir())[:10]
        missing = f"no {' or '.join((*PARQUET, *CSV))} file in this folder; found {listed}"
    elif place.is_file():
        found, missing = [place], ""
    else:
        found = sorted(Path(file) for file in glob.glob(path, recursive=True))
        missing = "no such file or folder, and as a glob it matches nothing"
    if not found:
        raise DataError(f"{table}.path={path}: {missing}; name the {table} of the log")
    for file in found:
        if not _kind(file):
            raise DataError(
                f"{file}: {table} are read from {', '.join((*PARQUET, *CSV))}; convert this file"
            )
    return found


def fragments_of(table: str, path: str, columns: Sequence[str], chunk_rows: int) -> list[Fragment]:
    """The fragments of a table, after a look at the columns of every file.

    Args:
      table: its name.
      path: file, folder or glob.
      columns: that every file must have.
      chunk_rows: rows of a fragment of Parquet, at least, where there are as many.

    Raises:
      DataError: no file, one that cannot be read, or one without a column.
    """
    fragments = []
    for file_number, path_of_file in enumerate(files_of(table, path)):
        _check_columns(path_of_file, columns)
        for row_groups, first_row in _pieces(path_of_file, chunk_rows):
            fragments.append(
                Fragment(
                    table, len(fragments), str(path_of_file), row_groups, first_row, file_number
                )
            )
    return fragments


def chunks(fragment: Fragment, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The columns of a fragment, at most `rows` rows at a time.

    IDs that are integers stay integers; columns of CSV are text, which later code reads.

    Raises:
      DataError: the file is cut short or damaged.
    """
    try:
        for batch in _batches(fragment, list(dict.fromkeys(columns)), rows):
            if batch.num_rows:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{fragment.path}: cannot be read ({' '.join(str(error).split())[:200]}); it may be"
            " cut short or damaged: repair it or bring it back from a copy"
        ) from error


def _kind(path: Path) -> str | None:
    if path.name.endswith(CSV):
        return "csv"
    return "parquet" if path.suffix in PARQUET else None


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    found = _columns_of(path)
    missing = [column for column in columns if column not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], found, n=3)
        hint = f"near it: {', '.join(near)}; " if near else ""
        raise DataError(
            f"{path}: no column {missing[0]!r}; {hint}columns found: {', '.join(found)}; name the"
            " right one in the config's column map"
        )


def _columns_of(path: Path) -> list[str]:
    try:
        if _kind(path) == "parquet":
            return pyarrow.parquet.read_schema(path).names
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: its columns cannot be read ({' '.join(str(error).split())[:200]}); it may be"
            " cut short or damaged: repair it or bring it back from a copy"
        ) from error


def _pieces(path: Path, rows: int) -> Iterator[tuple[tuple[int, int] | None, int]]:
    """Runs of row groups with at least `rows` rows each, and the row that each begins with."""
    if _kind(path) == "csv":
        yield None, 0
        return
    metadata = pyarrow.parquet.read_metadata(path)
    first_group = first_row = row = 0
    for group in range(metadata.num_row_groups):
        row += metadata.row_group(group).num_rows
        if row - first_row >= rows or group == metadata.num_row_groups - 1:
            yield (first_group, group + 1), first_row
            first_group, first_row = group + 1, row


def _batches(fragment: Fragment, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    if fragment.row_groups is None:
        yield from _whole(_csv_batches(fragment.path, columns), rows)
        return
    with pyarrow.parquet.ParquetFile(fragment.path) as file:
        groups = list(range(*fragment.row_groups))
        yield from file.iter_batches(rows, row_groups=groups, columns=columns)


def _csv_batches(path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    options = pyarrow.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=True,
    )
    read = pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with pyarrow.csv.open_csv(
        path, read_options=read, parse_options=parse, convert_options=options
    ) as reader:
        yield from reader


def _whole(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches cut and joined, so that all have `rows` rows but the last."""
    held: list[pa.RecordBatch] = []
    room = rows
    for batch in batches:
        while batch.num_rows >= room:
            yield pa.concat_batches([*held, batch.slice(0, room)])
            held, batch, room = [], batch.slice(room), rows
        held.append(batch)
        room -= batch.num_rows
    if room < rows:
        yield pa.concat_batches(held)
