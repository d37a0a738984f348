"""``table.json``: all that is known of a feature table on disk, but for its rows.

JSON for people to read, sealed for machines: its last entry is the CRC-32 of every byte before it,
so that no bit of the file can change unnoticed. It is replaced in one step, never edited; whatever
it does not record does not belong to the table.

Shape legend
    D   content width        P   virtual shards, 1,024
"""

import dataclasses
import json
import os
import zlib
from pathlib import Path

import numpy as np

from dicm_jax.ams.feature_table import AT_REST, Statistics, Storage
from dicm_jax.ams.layout import RowLayout
from dicm_jax.errors import DataError

METADATA_FILE = "table.json"
_FORMAT = "dicm_jax feature table"
_VERSION = 1
_SEAL = ',\n "crc32": '


@dataclasses.dataclass(frozen=True)
class TableMetadata:
    """What ``table.json`` records.

    Attributes:
      storage: format of the rows at rest.
      encoder: what made the features, in words.
      statistics: that every row was standardised with.
      rows_P: rows of each shard, int64.
      crc_P: CRC-32 of each shard's rows, int64.
    """

    storage: Storage
    encoder: str
    statistics: Statistics
    rows_P: np.ndarray
    crc_P: np.ndarray

    @property
    def n_keys(self) -> int:
        """Rows of the table; its keys are ``0 .. n_keys - 1``."""
        return int(self.rows_P.sum())

    @property
    def width(self) -> int:
        """``D``."""
        return len(self.statistics.mean_D)

    @property
    def layout(self) -> RowLayout:
        """Where the keys lie once the table is on devices."""
        return RowLayout(self.n_keys)

    @property
    def record(self) -> np.dtype:
        """One row in a shard file: field ``row`` and, for int8, its ``scale``; little-endian."""
        row = np.dtype(AT_REST[self.storage]).newbyteorder("<")
        scale = [("scale", "<f4")] if self.storage == "int8" else []
        return np.dtype([("row", row, (self.width,)), *scale])


def read_metadata(folder: Path) -> TableMetadata:
    """Reads ``table.json`` of a table's folder.

    Raises:
      DataError: no folder, no such file in it, not a table, altered since it was written, or
        written by a later version of the format.
    """
    body = _unseal(folder / METADATA_FILE, _read_bytes(folder))
    return TableMetadata(
        storage=body["storage"],
        encoder=body["encoder"],
        statistics=Statistics(
            np.array(body["mean"], np.float32), np.array(body["deviation"], np.float32)
        ),
        rows_P=np.array(body["shard_rows"], np.int64),
        crc_P=np.array([int(crc, 16) for crc in body["shard_crc32"]], np.int64),
    )


def save_metadata(metadata: TableMetadata, folder: Path) -> None:
    """Writes ``table.json`` anew: after a crash the folder holds the old file or this one."""
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "n_keys": metadata.n_keys,
        "width": metadata.width,
        "storage": metadata.storage,
        "encoder": metadata.encoder,
        "mean": metadata.statistics.mean_D.tolist(),
        "deviation": metadata.statistics.deviation_D.tolist(),
        "shard_rows": metadata.rows_P.tolist(),
        "shard_crc32": [f"{crc:08x}" for crc in metadata.crc_P.tolist()],
    }
    new = folder / (METADATA_FILE + ".new")
    with new.open("wb") as file:
        file.write(_seal(json.dumps(body, indent=1).removesuffix("\n}").encode()))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, folder / METADATA_FILE)
    sync(folder)


def sync(path: Path) -> None:
    """Waits until a file, or the list of files of a folder, is safe on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_bytes(folder: Path) -> bytes:
    try:
        return (folder / METADATA_FILE).read_bytes()
    except FileNotFoundError:
        found = f"no {METADATA_FILE} in it" if folder.is_dir() else "no such folder"
        raise DataError(
            f"{folder}: not a feature table: {found}; give the folder that a table was written to"
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder / METADATA_FILE}: cannot be read ({error.strerror}); give the folder that a "
            "table was written to, with leave to read it"
        ) from error


def _seal(head: bytes) -> bytes:
    return head + f'{_SEAL}"{zlib.crc32(head):08x}"\n}}\n'.encode()


def _unseal(path: Path, data: bytes) -> dict:
    head, seal, _ = data.rpartition(_SEAL.encode())
    if not seal and _FORMAT.encode() not in data:
        raise DataError(
            f"{path}: not the metadata of a feature table ({len(data)} bytes without its marks); "
            "give the folder that a table was written to"
        )
    if _seal(head) != data:
        raise DataError(
            f"{path}: altered since it was written: the CRC-32 at its end is not that of the "
            f"{len(head)} bytes before it; bring the file back from a copy, or write the table anew"
        )
    body = json.loads(head + b"\n}")
    if body["version"] > _VERSION:
        raise DataError(
            f"{path}: version {body['version']} of the format; this dicm_jax reads versions up to "
            f"{_VERSION}: install a later one, or write the table again with this one"
        )
    return body
