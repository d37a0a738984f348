"""The shard files of a feature table, and what can be wrong with one.

Key ``k`` lies in ``shard-SSSS.rows`` with ``SSSS = k mod 1024``, as record ``k div 1024``. A file
may be longer than ``table.json`` records, after rows were added and not recorded; what is recorded
rules.

Shape legend
    R   records of one shard        P   virtual shards, 1,024
"""

import errno
import mmap
import os
import resource
import sys
import threading
import zlib
from pathlib import Path

import numpy as np

from dicm_jax.ams.layout import VIRTUAL_SHARDS
from dicm_jax.errors import DataError
from dicm_jax.features.table_metadata import TableMetadata

_REMEDY = "bring this file back from a copy, or write the table again"
_BLOCK = 2**22  # bytes checked at a time
_HOLDS_FILES = sys.version_info < (3, 13)  # a mapping keeps its file open
_AROUND = 2**16  # bytes that Linux maps around a page that is touched, where it has them cached
_MAPPED_BYTES = 2**29  # mapped at most, but for the rows of one call


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{shard:04d}.rows"


def recorded_bytes(metadata: TableMetadata, shard: int) -> int:
    """Bytes of a shard's rows."""
    return int(metadata.rows_P[shard]) * metadata.record.itemsize


def check_length(folder: Path, metadata: TableMetadata, shard: int) -> int:
    """The bytes of a shard file, which are at least those recorded.

    Raises:
      DataError: the file is missing or shorter.
    """
    path, wanted = shard_path(folder, shard), recorded_bytes(metadata, shard)
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: shard file with {metadata.rows_P[shard]} rows of the table cannot be opened "
            f"({error.strerror}); {_REMEDY}"
        ) from error
    if found < wanted:
        raise DataError(
            f"{path}: truncated: {found} bytes found, {wanted} wanted for the "
            f"{metadata.rows_P[shard]} rows that are recorded; {_REMEDY}"
        )
    return found


def check_crc(folder: Path, metadata: TableMetadata, shard: int) -> None:
    """Reads a shard's rows from end to end.

    Raises:
      DataError: the file is missing or truncated, or a bit of it changed.
    """
    check_length(folder, metadata, shard)
    left, crc = recorded_bytes(metadata, shard), 0
    with shard_path(folder, shard).open("rb") as file:
        while block := file.read(min(left, _BLOCK)):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    if crc != metadata.crc_P[shard]:
        raise DataError(
            f"{shard_path(folder, shard)}: damaged: {crc:08x} is the CRC-32 of its rows, "
            f"{metadata.crc_P[shard]:08x} is recorded; {_REMEDY}"
        )


def read_records(
    folder: Path, metadata: TableMetadata, shard: int, first: int, end: int
) -> np.ndarray:
    """Records ``first .. end - 1`` of a shard, read into memory.

    Raises:
      DataError: the file is missing or truncated.
    """
    check_length(folder, metadata, shard)
    return np.fromfile(
        shard_path(folder, shard),
        metadata.record,
        count=end - first,
        offset=first * metadata.record.itemsize,
    )


class MappedShards:
    """Read-only memory maps of shard files, each made when it is first asked for.

    Pages of a map count as memory of the process until they are given back, which happens by itself
    when rows were touched that can have mapped 512 MiB (`touched`). The system may still hold the
    pages in its cache of files, where finding them again costs microseconds.

    May be used by several threads at once.
    """

    def __init__(self, folder: Path, metadata: TableMetadata):
        self._folder = folder
        self._metadata = metadata
        self._records_P: list[np.ndarray | None] = [None] * VIRTUAL_SHARDS
        self._maps: list[mmap.mmap] = []
        self._may_be_mapped = 0  # bytes
        self._lock = threading.Lock()

    def records(self, shard: int) -> np.ndarray:
        """The records ``[R]`` of a shard, read from its file as they are touched.

        Raises:
          DataError: the file is missing or truncated, or too many files are open.
        """
        records_R = self._records_P[shard]
        if records_R is None:
            with self._lock:
                records_R = self._records_P[shard]
                if records_R is None:
                    records_R = self._records_P[shard] = self._map(shard)
        return records_R

    def touched(self, count: int) -> None:
        """Says that `count` records were read; gives pages back when they may have become many."""
        with self._lock:
            self._may_be_mapped += count * (self._metadata.record.itemsize + _AROUND)
            many = self._may_be_mapped > _MAPPED_BYTES
        if many:
            self.release()

    def release(self) -> None:
        """Gives mapped pages back; what is touched again is read again. Values stay the same."""
        with self._lock:
            self._may_be_mapped = 0
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)

    def _map(self, shard: int) -> np.ndarray:
        check_length(self._folder, self._metadata, shard)
        n_bytes = recorded_bytes(self._metadata, shard)
        if not n_bytes:  # nothing cannot be mapped
            return np.zeros(0, self._metadata.record)
        if _HOLDS_FILES and not self._maps:
            _allow_more_files(VIRTUAL_SHARDS)
        path = shard_path(self._folder, shard)
        options = {} if _HOLDS_FILES else {"trackfd": False}
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), n_bytes, access=mmap.ACCESS_READ, **options)
        except OSError as error:
            raise DataError(f"{path}: {_why_not_mapped(error)}") from error
        mapped.madvise(mmap.MADV_RANDOM)
        self._maps.append(mapped)
        return np.frombuffer(mapped, self._metadata.record)


def _allow_more_files(count: int) -> None:
    """Raises the limit of open files by `count`, as far as the system lets a process do so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = soft + count if hard == resource.RLIM_INFINITY else min(soft + count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _why_not_mapped(error: OSError) -> str:
    if error.errno != errno.EMFILE:
        return f"cannot be mapped into memory ({os.strerror(error.errno or 0)}); {_REMEDY}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"cannot be mapped into memory: this process may open {soft} files (at most {hard}) and a "
        f"table takes {VIRTUAL_SHARDS}; allow more with `ulimit -Hn`, or use Python 3.13"
    )
