"""``table.json``: all that is known of a feature table on disk, but for its rows.

A sealed record (`dicm_jax.sealed_json`); whatever it does not record does not belong to the table.

Shape legend
    D   content width        P   virtual shards, 1,024
"""

import dataclasses
from pathlib import Path

import numpy as np

from dicm_jax import sealed_json
from dicm_jax.ams.feature_table import AT_REST, Statistics, Storage
from dicm_jax.ams.layout import RowLayout

METADATA_FILE = "table.json"
_FORMAT = "dicm_jax feature table"
_VERSION = 1


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
    body = sealed_json.load(
        folder / METADATA_FILE, format=_FORMAT, version=_VERSION, what="a feature table"
    )
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
    sealed_json.save(folder / METADATA_FILE, body)
