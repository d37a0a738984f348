"""A feature table and the ID of each of its rows, in one folder under the name of the content.

``OUT/<content>/`` is a table (`table_writing`), ``OUT/<content>.keys.parquet`` has one column
``id``, text, whose row ``k`` is the ID of key ``k``, and ``OUT/<content>.json`` is a sealed record
of both: where it stands, the table is whole. It comes last; a folder without it holds no table.

Shape legend
    N   rows of the table      D   content width
"""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from dicm_jax import sealed_json
from dicm_jax.ams.feature_table import Statistics, Storage
from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc
from dicm_jax.features.repeated_ids import repeated
from dicm_jax.features.table_files import TableFiles, open_table
from dicm_jax.features.table_metadata import METADATA_FILE
from dicm_jax.features.table_writing import write

_FORMAT = "dicm_jax features"
_VERSION = 1
_WHAT = "a feature table with IDs"


@dataclasses.dataclass(frozen=True)
class KeyedTable:
    """A table on disk and its IDs.

    Attributes:
      files: the rows.
      ids: of each row, text ``[N]``; the row of ``ids[k]`` has key ``k``.
      record: what was recorded when it was written: ``encoder``, ``source``, ``skipped`` ...
    """

    files: TableFiles
    ids: pa.Array
    record: dict[str, Any]


def open_keyed_table(folder: Path, content: str = "image") -> KeyedTable:
    """Opens what `write_keyed_table` wrote. Rows are not read (see `TableFiles.verify`).

    Example:
      >>> table = open_keyed_table(Path("features"))              # doctest: +SKIP
      >>> table.ids[3], table.files.gather(np.array([3]))         # doctest: +SKIP

    Raises:
      DataError: no such table, a part of it missing, altered or of another table.
    """
    record = read_record(folder, content)
    for path, name in ((keys_path(folder, content), "keys"), (_metadata(folder, content), "table")):
        _check_crc(path, record[f"{name}_crc32"])
    ids = _combined(pyarrow.parquet.read_table(keys_path(folder, content)).column("id"))
    return KeyedTable(open_table(folder / content), ids, record)


def write_keyed_table(
    folder: Path,
    content: str,
    rows_ND: np.ndarray,
    scale_N: np.ndarray | None,
    ids: pa.Array,
    *,
    stats: Statistics,
    storage: Storage,
    encoder: str,
    about: dict[str, Any],
) -> None:
    """Writes a table with its IDs: all three parts get their names when all is on disk.

    Args:
      folder: may hold other contents; is made where it is not.
      content: name of the table.
      rows_ND: features, or integers that `scale_N` turns into features; may be mapped from disk.
      scale_N: factor of each row, or None.
      ids: text ``[N]``, each once.
      stats: that the rows are standardised with.
      storage: format at rest.
      encoder: what made the features, in words.
      about: further entries of the record, JSON values.

    Raises:
      DataError: the folder holds such a table, IDs that do not fit, or as `table_writing.write`.
    """
    check_free(folder, content)
    check_ids(str(folder / content), ids, len(rows_ND))
    staged = _staged(folder, content)
    try:
        if staged.exists():  # of a run that was cut short
            shutil.rmtree(staged)
        staged.mkdir(parents=True)
        _write_keys(keys_path(staged, content), ids)
        write(staged / content, rows_ND, scale_N, stats, storage, encoder)
        body = {"format": _FORMAT, "version": _VERSION, "content": content, "encoder": encoder}
        body |= {"rows": len(rows_ND), "width": rows_ND.shape[1], "storage": storage} | about
        body["keys_crc32"] = f"{file_crc(keys_path(staged, content)):08x}"
        body["table_crc32"] = f"{file_crc(_metadata(staged, content)):08x}"
        sealed_json.save(record_path(staged, content), body)
        publish(folder, content)
    except OSError as error:
        raise DataError(
            f"{folder}: the table cannot be written ({error}); see to room on the disk and to "
            "leave to write, then run the same command again"
        ) from error


def publish(folder: Path, content: str) -> bool:
    """Gives a table that is whole, but not yet in its place, its names; says whether one is.

    The record moves last; a run that is cut short in between is ended by the next call.
    """
    staged = _staged(folder, content)
    if record_path(staged, content).exists():
        for path in (staged / content, keys_path(staged, content), record_path(staged, content)):
            if path.exists():
                os.replace(path, folder / path.name)
                sealed_json.sync(folder)
        staged.rmdir()
    return record_path(folder, content).exists()


def check_free(folder: Path, content: str) -> None:
    """Refuses to write over what is there.

    Raises:
      DataError: a part of a table of that name is in `folder`.
    """
    for path in (record_path(folder, content), folder / content, keys_path(folder, content)):
        if path.exists():
            raise DataError(
                f"{path}: is there already; remove it, or give another --output or --content"
            )


def check_ids(where: str, ids: pa.Array, count: int) -> None:
    """Refuses IDs that cannot tell rows apart.

    Raises:
      DataError: not one ID for each of `count` rows, one that is empty, or one that comes twice.
    """
    if len(ids) != count:
        raise DataError(
            f"{where}: {len(ids)} IDs for {count} rows; there must be one ID for each row"
        )
    empty_N = pc.call_function("equal", [ids.fill_null(""), ""]).to_numpy(zero_copy_only=False)
    if empty_N.any():
        raise DataError(
            f"{where}: row {int(np.argmax(empty_N))} has no ID; give each row one, or leave it out"
        )
    twice = repeated(ids)
    if twice is not None:
        raise DataError(
            f"{where}: {twice.count} IDs come more than once, the first is {twice.id!r} (rows "
            f"{twice.rows[0]} and {twice.rows[1]}); keep one row for each ID"
        )


def read_record(folder: Path, content: str) -> dict[str, Any]:
    """The sealed record of a table.

    Raises:
      DataError: no such table, or an altered record.
    """
    path = record_path(folder, content)
    return sealed_json.load(path, format=_FORMAT, version=_VERSION, what=_WHAT)


def record_path(folder: Path, content: str) -> Path:
    """The sealed record of a table."""
    return folder / f"{content}.json"


def keys_path(folder: Path, content: str) -> Path:
    """The IDs of a table."""
    return folder / f"{content}.keys.parquet"


def _staged(folder: Path, content: str) -> Path:
    return folder / f".{content}.staged"


def _metadata(folder: Path, content: str) -> Path:
    return folder / content / METADATA_FILE


def _write_keys(path: Path, ids: pa.Array) -> None:
    table = pa.table({"id": ids.cast(pa.string())})
    pyarrow.parquet.write_table(table, path, compression="zstd")
    sealed_json.sync(path)


def _check_crc(path: Path, recorded: str) -> None:
    if not path.is_file():
        raise DataError(
            f"{path}: missing; the record beside it names it: bring it back from a copy, or make "
            "the features again"
        )
    found = f"{file_crc(path):08x}"
    if found != recorded:
        raise DataError(
            f"{path}: changed since the features were made: {found} is its CRC-32, {recorded} is "
            "recorded; bring it back from a copy, or make the features again"
        )


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())
