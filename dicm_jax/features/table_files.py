"""A feature table on disk: read any of its rows, from many threads, without loading it.

A table is a folder with ``table.json`` (see `table_metadata`) and 1,024 shard files (see
`table_shards`); `table_writing` makes it.

Shape legend
    K   keys asked for      V   rows of a table (padded)      D   content width
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np

from dicm_jax.ams.feature_table import Statistics, Storage
from dicm_jax.ams.layout import VIRTUAL_SHARDS, RowLayout
from dicm_jax.errors import DataError
from dicm_jax.features.table_metadata import TableMetadata, read_metadata
from dicm_jax.features.table_shards import MappedShards, check_crc, check_length, read_records

StoredRows = tuple[np.ndarray, np.ndarray | None]
"""Rows at rest and, for int8, what each is multiplied with: the parts of a `FeatureTable`."""


@dataclasses.dataclass(frozen=True)
class TableFiles:
    """A table on disk, as it was when `open_table` opened it.

    Attributes:
      folder: of the table.
      metadata: what is known of it.
      shards: its rows, mapped into memory as they are asked for.
    """

    folder: Path
    metadata: TableMetadata
    shards: MappedShards

    @property
    def n_keys(self) -> int:
        """Rows of the table; its keys are ``0 .. n_keys - 1``."""
        return self.metadata.n_keys

    @property
    def width(self) -> int:
        """``D``."""
        return self.metadata.width

    @property
    def storage(self) -> Storage:
        """Format of the rows at rest."""
        return self.metadata.storage

    @property
    def statistics(self) -> Statistics:
        """What the rows were standardised with."""
        return self.metadata.statistics

    @property
    def encoder(self) -> str:
        """What made the features, in words."""
        return self.metadata.encoder

    @property
    def layout(self) -> RowLayout:
        """Where the keys lie once the table is on devices."""
        return self.metadata.layout

    def verify(self, first_shard: int = 0, end_shard: int = VIRTUAL_SHARDS) -> None:
        """Reads shards ``first_shard .. end_shard - 1`` and compares lengths and CRC-32.

        Raises:
          DataError: a shard file is missing, truncated or damaged; names the first such file.
        """
        check = lambda shard: check_crc(self.folder, self.metadata, shard)  # noqa: E731
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(check, range(first_shard, end_shard)):
                pass

    def empty(self, count: int) -> StoredRows:
        """Room for `count` rows, to give to `gather` again and again."""
        scale_K = np.empty(count, np.float32) if self.storage == "int8" else None
        return np.empty((count, self.width), self.metadata.record["row"].base), scale_K

    def gather(self, keys_K: np.ndarray, out: StoredRows | None = None) -> StoredRows:
        """The stored rows of keys, in the order of the keys; a key may come twice.

        Each row is read from its mapped shard file when it is touched; pages mapped that way are
        given back now and then (see `MappedShards`). Several threads may gather at once, also into
        parts of one array.

        Args:
          keys_K: integers.
          out: where the rows go, ``[K, D]`` and ``[K]`` (see `empty`); None makes room.

        Returns:
          `out`.

        Raises:
          DataError: a key out of range; a shard file missing or truncated.
          ValueError: `out` does not fit.
        """
        self._check_keys(keys_K)
        keys_K = keys_K.astype(np.int64, casting="same_kind")  # rows may need more bits than keys
        out = self.empty(len(keys_K)) if out is None else out
        self._check_room(out, len(keys_K))
        stored_KD, scale_K = out
        row_K = self.layout.row(keys_K)
        order_K = np.argsort(row_K)
        bounds = np.arange(VIRTUAL_SHARDS + 1, dtype=np.int64) * self.layout.shard_rows
        start_P = np.searchsorted(row_K[order_K], bounds)
        for shard in np.flatnonzero(np.diff(start_P)).tolist():
            asked = order_K[start_P[shard] : start_P[shard + 1]]
            position = row_K[asked] - shard * self.layout.shard_rows
            # `take`, unlike an index, lets other threads run while pages come from disk.
            found = self.shards.records(shard).take(position)
            stored_KD[asked] = found["row"]
            if scale_K is not None:
                scale_K[asked] = found["scale"]
        self.shards.touched(len(keys_K))
        return out

    def values(self, keys_K: np.ndarray) -> np.ndarray:
        """The standardised features of keys as float32 ``[K, D]``, whatever their format at rest.

        Raises:
          DataError: as `gather`.
        """
        stored_KD, scale_K = self.gather(keys_K)
        if self.storage == "bfloat16":
            stored_KD = stored_KD.view(ml_dtypes.bfloat16)
        values_KD = stored_KD.astype(np.float32)
        return values_KD if scale_K is None else values_KD * scale_K[:, None]

    def read_run(self, first_row: int, end_row: int, layout: RowLayout | None = None) -> StoredRows:
        """Rows ``first_row .. end_row - 1`` of the table as it lies on devices, padding zero.

        Reads the files from end to end; to lay the table on servers, each asks for its own run.

        Args:
          first_row: in ``0 .. layout.n_rows``.
          end_row: likewise.
          layout: of the table on devices, which may have room for more keys; None: `self.layout`.

        Raises:
          DataError: a layout for fewer keys; a shard file missing or truncated.
        """
        layout = self.layout if layout is None else layout
        self._check_run(first_row, end_row, layout)
        stored_VD, scale_V = self.empty(end_row - first_row)
        stored_VD[:] = 0
        if scale_V is not None:
            scale_V[:] = 0
        for shard in range(first_row // layout.shard_rows, -(-end_row // layout.shard_rows)):
            row_of_shard = shard * layout.shard_rows
            first = max(first_row - row_of_shard, 0)
            end = min(end_row - row_of_shard, int(self.metadata.rows_P[shard]))
            if end <= first:
                check_length(self.folder, self.metadata, shard)
                continue
            records_R = read_records(self.folder, self.metadata, shard, first, end)
            at = slice(row_of_shard + first - first_row, row_of_shard + end - first_row)
            stored_VD[at] = records_R["row"]
            if scale_V is not None:
                scale_V[at] = records_R["scale"]
        return stored_VD, scale_V

    def release(self) -> None:
        """Gives back the memory of rows gathered so far; rows gathered later are read again."""
        self.shards.release()

    def _check_keys(self, keys_K: np.ndarray) -> None:
        bad = np.flatnonzero((keys_K < 0) | (keys_K >= self.n_keys))
        if bad.size:
            raise DataError(
                f"{self.folder}: key {keys_K[bad[0]]} asked for; the table has n_keys="
                f"{self.n_keys}, keys 0 to {self.n_keys - 1}: take the table that the keys were "
                "made for, or append the rows"
            )

    def _check_room(self, out: StoredRows, count: int) -> None:
        for name, given, wanted in zip(("rows", "scale"), out, self.empty(0), strict=True):
            if wanted is None or given is None:
                fits = wanted is given
            else:
                fits = given.shape == (count, *wanted.shape[1:]) and given.dtype == wanted.dtype
            if not fits:
                raise ValueError(f"out does not fit {count} {name} of the table; see `empty`")

    def _check_run(self, first_row: int, end_row: int, layout: RowLayout) -> None:
        if layout.n_keys < self.n_keys:
            raise DataError(
                f"{self.folder}: a layout of {layout.n_keys} keys was asked for; the table has "
                f"n_keys={self.n_keys}: give a layout of that many keys or more"
            )
        if not 0 <= first_row <= end_row <= layout.n_rows:
            raise DataError(
                f"{self.folder}: rows {first_row} to {end_row} asked for; the layout has "
                f"{layout.n_rows} rows: give a run within them"
            )


def open_table(folder: Path) -> TableFiles:
    """Opens a table. Only ``table.json`` is read; `TableFiles.verify` reads the rows.

    Example:
      >>> table = open_table(Path("features"))          # doctest: +SKIP
      >>> stored_KD, scale_K = table.gather(np.array([3, 5]))  # doctest: +SKIP

    Raises:
      DataError: no table, altered metadata, or a table of a later version of the format.
    """
    metadata = read_metadata(folder)
    return TableFiles(folder, metadata, MappedShards(folder, metadata))
