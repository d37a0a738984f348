"""The end of every way to make features: statistics, the table, its IDs, the record.

Shape legend
    N   rows      D   content width
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicm_jax.ams.feature_table import Storage, statistics
from dicm_jax.errors import DataError
from dicm_jax.features.keyed_table import check_free, publish, read_record, write_keyed_table
from dicm_jax.features.non_finite import first_non_finite_row
from dicm_jax.features.unfinished import check_same


@dataclasses.dataclass(frozen=True)
class Output:
    """Where features go, and how they rest.

    Attributes:
      folder: that is made where it is not, and may hold other contents.
      content: name of the table.
      storage: format of the rows at rest.
    """

    folder: Path
    content: str
    storage: Storage

    @property
    def work(self) -> Path:
        """Folder of unfinished work."""
        return self.folder / f".{self.content}.unfinished"

    @property
    def skipped(self) -> Path:
        """The list of what was skipped."""
        return self.folder / f"{self.content}.skipped.jsonl"

    def finished(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a table that an earlier run of the same settings finished, or None.

        Raises:
          DataError: a table of other settings is there, or something that is none.
        """
        if not publish(self.folder, self.content):
            check_free(self.folder, self.content)
            return None
        record = read_record(self.folder, self.content)
        check_same(
            self.folder / self.content,
            record.get("settings", {}),
            settings | {"storage": self.storage},
            "give another --output or --content, or remove what is there",
        )
        self.clear()
        return record

    def write(
        self,
        rows_ND: np.ndarray,
        scale_N: np.ndarray | None,
        ids: pa.Array,
        *,
        encoder: str,
        settings: dict[str, Any],
        about: dict[str, Any],
    ) -> dict[str, Any]:
        """Writes the table and returns its record.

        Args:
          rows_ND: features, or integers that `scale_N` turns into features; may be mapped.
          scale_N: factor of each row, or None.
          ids: of each row.
          encoder: what made the features, in words.
          settings: that rows depend on, JSON values by name.
          about: further entries of the record.

        Raises:
          DataError: NaN or infinity in a row; or as `keyed_table.write_keyed_table`.
        """
        with np.errstate(invalid="ignore", over="ignore"):  # looked for below
            stats = statistics(rows_ND, scale_N)
        if not (np.isfinite(stats.mean_D).all() and np.isfinite(stats.deviation_D).all()):
            _blame(self.folder / self.content, rows_ND, scale_N, ids)
        write_keyed_table(
            self.folder,
            self.content,
            rows_ND,
            scale_N,
            ids,
            stats=stats,
            storage=self.storage,
            encoder=encoder,
            about={"settings": settings | {"storage": self.storage}} | about,
        )
        return read_record(self.folder, self.content)

    def clear(self) -> None:
        """Removes the work folder, once the table is there."""
        shutil.rmtree(self.work, ignore_errors=True)


def _blame(where: Path, rows_ND: np.ndarray, scale_N: np.ndarray | None, ids: pa.Array) -> None:
    """Names the row that spoiled the statistics."""
    for name, array in (("features", rows_ND), ("scale", scale_N)):
        row = None if array is None else first_non_finite_row(array)
        if row is not None:
            raise DataError(
                f"{where}: NaN or infinity in the {name} of {ids[row].as_py()!r} (row {row}); make "
                "that row again or leave it out"
            )
    raise DataError(
        f"{where}: features are too large: their squares exceed float32; scale them down"
    )
