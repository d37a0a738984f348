"""Rows that another encoder made -> a feature table.

Rows stay on disk: they are mapped, or copied to the work folder a piece at a time and mapped there.
A run that was cut short begins anew; it takes no longer than reading the array a few times.

Shape legend
    V   rows of the array      D   content width
"""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicm_jax.errors import DataError
from dicm_jax.features.array_file import ArrayNames, ArrayRows, as_ids, check_count, open_array
from dicm_jax.features.keyed_table import check_ids
from dicm_jax.features.output import Output
from dicm_jax.features.text_columns import SUFFIXES, read_text_columns
from dicm_jax.features.unfinished import open_unfinished


@dataclasses.dataclass(frozen=True)
class ArrayJob:
    """Which rows to make a table of.

    Attributes:
      source: the array (`array_file`).
      ids: file with the ID of each row, where the array has none.
      id_name: what IDs are called in either.
      encoder: what made the rows, in words; None: the name of the file.
    """

    source: Path
    ids: Path | None
    id_name: str
    encoder: str | None


def features_of_array(job: ArrayJob, output: Output) -> dict[str, Any]:
    """Makes the table; returns its record.

    Raises:
      DataError: the array, its IDs or the output folder cannot be used.
    """
    if not job.source.is_file():
        raise DataError(f"{job.source}: no such file; give the array that you have")
    settings = _settings(job)
    record = output.finished(settings)
    if record is not None:
        return record
    with open_unfinished(output.work, settings, width=1) as work:
        try:
            return _table(job, settings, work.folder, output)
        finally:
            output.clear()


def _table(
    job: ArrayJob, settings: dict[str, Any], scratch: Path, output: Output
) -> dict[str, Any]:
    hint = "or name its array of IDs with --id-name"
    names = ArrayNames(id=job.id_name, item="row", catalogue=None, hint=hint)
    array = open_array(job.source, names, scratch)
    ids = _ids(job, array, names)
    check_ids(str(job.source), ids, len(array.rows_VD))
    return output.write(
        array.rows_VD,
        array.scale_V,
        ids,
        encoder=settings["encoder"],
        settings=settings,
        about={"source": str(job.source), "skipped": {}},
    )


def _settings(job: ArrayJob) -> dict[str, Any]:
    settings = {
        "encoder": job.encoder or job.source.name,
        "array": job.source.name,
        "array_bytes": job.source.stat().st_size,
    }
    return settings if job.ids is None else settings | {"ids": job.ids.name}


def _ids(job: ArrayJob, array: ArrayRows, names: ArrayNames) -> pa.Array:
    if (array.ids is None) == (job.ids is None):
        found = "no IDs in it" if array.ids is None else f"IDs in it, and also in {job.ids}"
        remedy = "give a file of them with --ids" if array.ids is None else "leave out --ids"
        raise DataError(f"{job.source}: {found}; {remedy}")
    if job.ids is None:
        return array.ids
    ids = _read_ids(job.ids, names)
    check_count(job.source, array, len(ids), f"{job.ids} names {len(ids)}", names)
    return ids


def _read_ids(path: Path, names: ArrayNames) -> pa.Array:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a file with the ID of each row")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return read_text_columns(path, (names.id,))[0]
    try:
        if suffix == ".npy":
            return as_ids(path, np.load(path), names)
        if suffix == ".txt":
            return pa.array(path.read_text(encoding="utf-8").splitlines(), pa.string())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: IDs cannot be read ({error}); make the file again") from error
    raise DataError(
        f"{path}: suffix {path.suffix!r} found; IDs are read from .txt (one a line), .npy, "
        f"{' and '.join(SUFFIXES)}"
    )
