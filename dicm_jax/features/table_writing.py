"""Write a feature table to disk, and add rows to one; neither holds more than a block in memory.

A table that is being written stands in a folder of another name, which gets the table's name when
all is on disk. Added rows stand after those of the shard files and belong to the table from the
moment ``table.json`` is replaced. Whenever a run is cut short, there is the old state or the new.

Shape legend
    N   rows as the source gives them    D   content width    P   virtual shards, 1,024
    C   rows of one block, in key order
"""

import contextlib
import dataclasses
import os
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dicm_jax.ams.feature_table import Statistics, Storage, standardized_chunks, to_rest
from dicm_jax.ams.layout import VIRTUAL_SHARDS
from dicm_jax.errors import DataError
from dicm_jax.features.progress import progress_bar
from dicm_jax.features.table_metadata import (
    METADATA_FILE,
    TableMetadata,
    read_metadata,
    save_metadata,
)
from dicm_jax.features.table_shards import check_length, recorded_bytes, shard_path
from dicm_jax.sealed_json import sync

_BLOCK_BYTES = 2**28  # held in memory, so that each shard file is opened once for many rows


def write(
    folder: Path,
    rows_ND: np.ndarray,
    scale_N: np.ndarray | None,
    stats: Statistics,
    storage: Storage,
    encoder: str,
) -> None:
    """Standardises rows, brings them to their format for rest and writes them as a table.

    Args:
      folder: of the table; must not exist, or be empty.
      rows_ND: features, or integers that `scale_N` turns into features; may be mapped from disk.
        Row ``k`` is the row of key ``k``.
      scale_N: factor of each row, or None.
      stats: mean and deviation that the rows are standardised with; kept in the table.
      storage: format at rest.
      encoder: what made the features, in words.

    Raises:
      DataError: `folder` holds something or cannot be written; no rows; a scale or statistics that
        do not fit them; NaN or infinity, with its key and dim.
    """
    folder = folder.resolve()
    _check_rows(folder, rows_ND, scale_N, len(stats.mean_D))
    _check_statistics(folder, rows_ND, scale_N, stats)
    _check_free(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    none_P = np.zeros(VIRTUAL_SHARDS, np.int64)
    metadata = TableMetadata(storage, encoder, stats, rows_P=none_P, crc_P=none_P)
    with _to_disk(folder):
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        for shard in range(VIRTUAL_SHARDS):
            shard_path(unfinished, shard).touch()
        save_metadata(_extend(unfinished, metadata, rows_ND, scale_N), unfinished)
        os.replace(unfinished, folder)
        sync(folder.parent)


def append(folder: Path, rows_ND: np.ndarray, scale_N: np.ndarray | None) -> int:
    """Adds rows to a table, standardised with the table's statistics.

    What an earlier, interrupted call left behind is cut off first. One process at a time may add
    rows; tables that are open keep the rows they had when they were opened.

    Args:
      folder: of the table.
      rows_ND: features, or integers that `scale_N` turns into features; may be mapped from disk.
      scale_N: factor of each row, or None.

    Returns:
      The key of the first row added; the others follow it.

    Raises:
      DataError: no table in `folder`, or a damaged or unwritable one; no rows, or of another width;
        a scale that does not fit them; NaN or infinity, with its key and dim.
    """
    metadata = read_metadata(folder)
    _check_rows(folder, rows_ND, scale_N, metadata.width)
    with _to_disk(folder):
        for shard in range(VIRTUAL_SHARDS):
            wanted = recorded_bytes(metadata, shard)
            if check_length(folder, metadata, shard) > wanted:
                os.truncate(shard_path(folder, shard), wanted)
        save_metadata(_extend(folder, metadata, rows_ND, scale_N), folder)
    return metadata.n_keys


def _extend(
    folder: Path, metadata: TableMetadata, rows_ND: np.ndarray, scale_N: np.ndarray | None
) -> TableMetadata:
    """Adds rows to the shard files; what is returned is yet to be recorded."""
    rows_P, crc_P = metadata.rows_P.copy(), metadata.crc_P.copy()
    key = metadata.n_keys
    with progress_bar(len(rows_ND), "table rows", "row") as bar:
        for block_C in _blocks(metadata, rows_ND, scale_N):
            for first in range(min(VIRTUAL_SHARDS, len(block_C))):
                shard = (key + first) % VIRTUAL_SHARDS
                of_shard = block_C[first::VIRTUAL_SHARDS]
                data = of_shard.tobytes()
                with shard_path(folder, shard).open("ab") as file:
                    file.write(data)
                rows_P[shard] += len(of_shard)
                crc_P[shard] = zlib.crc32(data, int(crc_P[shard]))
            key += len(block_C)
            bar.update(len(block_C))
    changed = [shard_path(folder, int(shard)) for shard in np.flatnonzero(rows_P - metadata.rows_P)]
    with ThreadPoolExecutor(32) as pool:  # together they take the time of a few
        list(pool.map(sync, changed))
    return dataclasses.replace(metadata, rows_P=rows_P, crc_P=crc_P)


def _blocks(
    metadata: TableMetadata, rows_ND: np.ndarray, scale_N: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Records in key order, a block at a time."""
    size = max(VIRTUAL_SHARDS, _BLOCK_BYTES // metadata.record.itemsize)
    for start in range(0, len(rows_ND), size):
        given_CD = rows_ND[start : start + size]
        scale_C = None if scale_N is None else scale_N[start : start + size]
        block_C = np.empty(len(given_CD), metadata.record)
        done = 0
        # Infinities are looked for here; NumPy need not warn of them.
        with np.errstate(over="ignore", invalid="ignore"):
            for standard_ND in standardized_chunks(given_CD, scale_C, metadata.statistics):
                _check_finite(metadata.n_keys + start + done, standard_ND)
                part_C = block_C[done : done + len(standard_ND)]
                part_C["row"], scale_of_rows = to_rest(standard_ND, metadata.storage)
                if scale_of_rows is not None:
                    part_C["scale"] = scale_of_rows
                done += len(standard_ND)
        yield block_C


@contextlib.contextmanager
def _to_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: the table cannot be written ({error}); see to room on the disk and to leave"
            " to write, then do it again"
        ) from error


def _check_free(folder: Path) -> None:
    if not folder.exists():
        return
    if (folder / METADATA_FILE).exists():
        raise DataError(
            f"{folder}: already holds a feature table; append to it, or name another folder"
        )
    if not folder.is_dir() or any(folder.iterdir()):
        raise DataError(f"{folder}: exists and is not an empty folder; name another folder")


def _check_rows(folder: Path, rows_ND: np.ndarray, scale_N: np.ndarray | None, width: int) -> None:
    if rows_ND.ndim != 2 or not rows_ND.size or rows_ND.dtype.kind not in "fiu":
        raise DataError(
            f"{folder}: rows to write are {rows_ND.dtype} of shape {rows_ND.shape}; expected "
            "numbers [rows, content width], at least one row"
        )
    if rows_ND.shape[1] != width:
        raise DataError(
            f"{folder}: rows to write have width {rows_ND.shape[1]}, the table's statistics have "
            f"width {width}; take the features of the encoder that the statistics belong to"
        )
    if scale_N is not None and scale_N.shape != (len(rows_ND),):
        raise DataError(
            f"{folder}: scale has shape {scale_N.shape}, rows to write have shape {rows_ND.shape}; "
            "expected one factor for each row"
        )


def _check_statistics(
    folder: Path, rows_ND: np.ndarray, scale_N: np.ndarray | None, stats: Statistics
) -> None:
    """Statistics spoiled by a feature that is not finite are blamed on that feature."""
    usable_D = np.isfinite(stats.mean_D) & np.isfinite(stats.deviation_D) & (stats.deviation_D > 0)
    if usable_D.all():
        return
    dim = int(np.argmin(usable_D))
    feature_N = rows_ND[:, dim].astype(np.float32)
    if scale_N is not None:
        feature_N *= scale_N
    bad = np.flatnonzero(~np.isfinite(feature_N))
    if bad.size:
        raise _not_finite(int(bad[0]), dim, float(feature_N[bad[0]]))
    raise DataError(
        f"{folder}: statistics of dim {dim} are mean {stats.mean_D[dim]}, deviation "
        f"{stats.deviation_D[dim]}; expected finite numbers and a deviation above 0: compute them "
        "from the rows"
    )


def _check_finite(first_key: int, standard_ND: np.ndarray) -> None:
    finite_N = np.isfinite(standard_ND).all(axis=1)
    if not finite_N.all():
        row = int(np.argmin(finite_N))
        dim = int(np.argmin(np.isfinite(standard_ND[row])))
        raise _not_finite(first_key + row, dim, float(standard_ND[row, dim]))


def _not_finite(key: int, dim: int, value: float) -> DataError:
    return DataError(
        f"rows to write: the feature of key {key} in dim {dim} is, or becomes when standardised, "
        f"{value}; make that row again or leave it out"
    )
