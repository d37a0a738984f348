"""Rows that were computed so far, kept so that a run that was cut short can go on.

The work folder ``OUT/.<content>.unfinished`` holds the settings of the run, the rows, what was
skipped, and a sealed record of how far both files are good. Rows are added at the end of their file
and count once the record says so: whatever a run leaves behind when it is killed in between is cut
off by the next.

Shape legend
    N   rows      D   content width
"""

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax import sealed_json
from dicm_jax.errors import DataError
from dicm_jax.features.file_crc import file_crc

_SETTINGS, _PROGRESS = "settings.json", "progress.json"
_ROWS, _SKIPPED, _LOCK = "rows.float32", "skipped.jsonl", "lock"
_FORMAT, _WHAT = "dicm_jax unfinished features", "unfinished features"
_VERSION = 1


class Unfinished:
    """The work folder of a run; `open_unfinished` makes it.

    Attributes:
      folder: that holds it.
      sources: how many sources, e.g. images, are done: turned into a row or skipped.
      rows: how many rows there are.
    """

    def __init__(self, folder: Path, width: int):
        self.folder = folder
        self.sources = 0
        self.rows = 0
        self._width = width
        self._rows_crc = 0
        self._skipped_bytes = 0
        if (folder / _PROGRESS).exists():
            progress = _load(folder / _PROGRESS)
            self.sources, self.rows = progress["sources"], progress["rows"]
            self._rows_crc = progress["rows_crc32"]
            self._skipped_bytes = progress["skipped_bytes"]
        with self._to_disk():
            self._cut(folder / _ROWS, self.rows * width * 4)
            self._cut(folder / _SKIPPED, self._skipped_bytes)

    def commit(self, sources: int, rows_ND: np.ndarray, skipped: Sequence[dict[str, Any]]) -> None:
        """Adds rows to those that are safe.

        Args:
          sources: that are done with these.
          rows_ND: float32, of the sources since the last commit that were not skipped, in order.
          skipped: the others; what to say of each, JSON values with a ``reason``.

        Raises:
          DataError: the disk is full, or the folder cannot be written; what was there stays.
        """
        rows = np.ascontiguousarray(rows_ND, "<f4").tobytes()
        lines = "".join(json.dumps(line) + "\n" for line in skipped).encode()
        with self._to_disk():
            _append(self.folder / _ROWS, rows)
            _append(self.folder / _SKIPPED, lines)
            self.sources, self.rows = sources, self.rows + len(rows_ND)
            self._rows_crc = zlib.crc32(rows, self._rows_crc)
            self._skipped_bytes += len(lines)
            _save(self.folder / _PROGRESS, self._progress())

    def map_rows(self) -> np.ndarray:
        """All rows ``[N, D]``, mapped into memory.

        Raises:
          DataError: a bit of them changed on disk.
        """
        path = self.folder / _ROWS
        if file_crc(path) != self._rows_crc:
            raise DataError(
                f"{path}: damaged: its CRC-32 is not the one recorded; remove {self.folder} and "
                "begin anew"
            )
        return np.memmap(path, "<f4", mode="r", shape=(self.rows, self._width))

    def skipped(self) -> list[dict[str, Any]]:
        """What was said of each source that was skipped."""
        with (self.folder / _SKIPPED).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def copy_skipped(self, path: Path) -> None:
        """Copies the list of what was skipped, one JSON object a line."""
        draft = path.with_name(path.name + ".new")
        with self._to_disk():
            shutil.copyfile(self.folder / _SKIPPED, draft)
            sealed_json.sync(draft)
            os.replace(draft, path)

    def _progress(self) -> dict[str, Any]:
        return {
            "sources": self.sources,
            "rows": self.rows,
            "rows_crc32": self._rows_crc,
            "skipped_bytes": self._skipped_bytes,
        }

    def _cut(self, path: Path, size: int) -> None:
        """Cuts off what was written and not recorded."""
        path.touch()
        found = path.stat().st_size
        if found < size:
            raise DataError(
                f"{path}: truncated: {found} bytes found, {size} recorded; remove {self.folder} "
                "and begin anew"
            )
        if found > size:
            os.truncate(path, size)

    @contextlib.contextmanager
    def _to_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written ({error}); what was done before stays: make "
                "room, or see to leave to write, and run the same command again"
            ) from error


@contextlib.contextmanager
def open_unfinished(folder: Path, settings: dict[str, Any], width: int) -> Iterator[Unfinished]:
    """Opens the work folder of a run, or makes it. Held by one process at a time.

    Args:
      folder: of the work.
      settings: that rows depend on, JSON values by name.
      width: ``D``.

    Raises:
      DataError: the folder holds work of other settings, is damaged, cannot be written, or another
        process works on it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be made ({error}); give an --output with leave to write"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{folder}: another process is at work there; let it end, or give another --output"
            ) from error
        _check_settings(folder, settings)
        yield Unfinished(folder, width)


def check_same(where: Path, before: dict[str, Any], now: dict[str, Any], remedy: str) -> None:
    """Refuses settings that are not those of what is there.

    Args:
      where: what is there.
      before: its settings.
      now: those asked for.
      remedy: what to do about it.

    Raises:
      DataError: says which differ.
    """
    differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differ:
        changes = "; ".join(
            f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in differ
        )
        raise DataError(f"{where}: made with other settings: {changes}; {remedy}")


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / _SETTINGS
    if (folder / _PROGRESS).exists():
        remedy = "give the former ones to go on with that work, or remove it to begin anew"
        check_same(folder, _load(path)["settings"], settings, remedy)
    else:
        _save(path, {"settings": settings})


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _save(path: Path, body: dict[str, Any]) -> None:
    sealed_json.save(path, {"format": _FORMAT, "version": _VERSION} | body)


def _load(path: Path) -> dict[str, Any]:
    return sealed_json.load(path, format=_FORMAT, version=_VERSION, what=_WHAT)
