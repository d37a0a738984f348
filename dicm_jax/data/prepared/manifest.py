"""``prepared.json``: all that is known of a prepared set. It is written last: no record, no set.

A prepared set is a folder:

    prepared.json              this record, sealed
    dicm_log/1.0.0/            the groups, a TFDS data set of array_record shards
    sizes-SPLIT.npy            impressions of every group, in order: batches are cut by it
    items.npz                  the catalogue: ``ids_NF`` and ``image_N``
    items.parquet              the ID of every item, and of its image, as the source has them
    vocabularies/NAME.parquet  the values of a vocabulary in the order of their keys; none if hashed
"""

import dataclasses
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.data.prepared.shards import DATASET_FOLDER, Shard, shard_name
from dicm_jax.data.schema import IdField
from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc

MANIFEST = "prepared.json"
ITEMS, ITEM_IDS = "items.npz", "items.parquet"
FORMAT = "dicm_jax prepared set"
_VERSION = 1
_REMEDY = "bring this file back from a copy, or prepare the set again"


def sizes_name(split: str) -> str:
    """The file with the impressions of every group of a split."""
    return f"sizes-{split}.npy"


def vocabulary_file(name: str) -> str:
    """The file with the values of a vocabulary, one text a row, column ``value``."""
    return f"vocabularies/{name}.parquet"


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """Length and CRC-32 of a file beside the shards."""

    n_bytes: int
    crc32: int


@dataclasses.dataclass(frozen=True)
class FeatureRecord:
    """The feature table that the images of a set were found in.

    Attributes:
      path: its folder, from the folder of the set.
      rows: that it had; more may have come since.
      statistics_crc32: of what its rows are standardised with, by which it is known again.
    """

    path: str
    rows: int
    statistics_crc32: int


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What ``prepared.json`` records.

    Attributes:
      name: of the log.
      fields, vocabulary_sizes: as in `ClickLog`.
      items: how many.
      block_groups: groups of a record.
      splits: the shards of each split.
      files: other files of the set, by their path in it.
      features: the feature tables that images were found in, by content.
      notes: counts worth knowing, those of what was left out among them.
      settings: that the set was prepared with.
      source: the files it was made from, with their lengths.
    """

    name: str
    fields: tuple[IdField, ...]
    vocabulary_sizes: dict[str, int]
    items: int
    block_groups: int
    splits: dict[str, list[Shard]]
    files: dict[str, FileRecord]
    features: dict[str, FeatureRecord]
    notes: dict[str, float]
    settings: dict[str, Any]
    source: dict[str, int]


def unfinished_folder(folder: Path) -> Path:
    """Where a set is made before it gets its name."""
    folder = folder.absolute()
    return folder.with_name(f".{folder.name}.unfinished")


def save(prepared: Prepared, folder: Path) -> None:
    """Writes the record; with it the folder becomes a prepared set."""
    body = {"format": FORMAT, "version": _VERSION, **dataclasses.asdict(prepared)}
    sealed_json.save(folder / MANIFEST, body)


def load(folder: Path) -> Prepared:
    """Reads the record of a prepared set.

    Raises:
      DataError: no set in the folder, an unfinished one, or an altered record.
    """
    unfinished = unfinished_folder(folder)
    if unfinished.is_dir() and not (folder / MANIFEST).exists():
        raise DataError(
            f"{folder}: its preparation is not finished, {unfinished} holds what is done; run the"
            " same python -m dicm_jax.prepare again, it goes on"
        )
    body = sealed_json.load(
        folder / MANIFEST, format=FORMAT, version=_VERSION, what="a prepared set"
    )
    known = {field.name: body[field.name] for field in dataclasses.fields(Prepared)}
    known["fields"] = tuple(IdField(**field) for field in body["fields"])
    known["splits"] = {
        name: [Shard(**shard) for shard in shards] for name, shards in body["splits"].items()
    }
    known["features"] = {
        content: FeatureRecord(**record) for content, record in body["features"].items()
    }
    known["files"] = {name: FileRecord(**record) for name, record in body["files"].items()}
    return Prepared(**known)


def check_files(prepared: Prepared, folder: Path, *, read: bool) -> None:
    """Compares the files of a set with its record.

    Args:
      prepared: the record.
      folder: of the set.
      read: also read every file and compare its CRC-32, not only its length.

    Raises:
      DataError: a file is missing, of another length, or damaged; names the first.
    """
    records = {
        Path(name): (record.n_bytes, record.crc32) for name, record in prepared.files.items()
    }
    for split, shards in prepared.splits.items():
        for number, shard in enumerate(shards):
            name = DATASET_FOLDER / shard_name(split, number, len(shards))
            records[name] = (shard.n_bytes, shard.crc32)
    for name, (n_bytes, crc32) in records.items():
        _check_file(folder / name, n_bytes, crc32 if read else None)


def record_of(path: Path) -> FileRecord:
    """Length and CRC-32 of a file."""
    return FileRecord(path.stat().st_size, file_crc(path))


def _check_file(path: Path, n_bytes: int, crc32: int | None) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: file of a prepared set cannot be opened ({error.strerror}); {_REMEDY}"
        ) from error
    if found != n_bytes:
        raise DataError(f"{path}: {found} bytes found, {n_bytes} are recorded; {_REMEDY}")
    if crc32 is not None and (crc := file_crc(path)) != crc32:
        raise DataError(
            f"{path}: damaged: {crc:08x} is its CRC-32, {crc32:08x} is recorded; {_REMEDY}"
        )
