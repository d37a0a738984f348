"""Small JSON records that say what a folder holds, sealed against change.

JSON for people to read, sealed for machines: the last entry is the CRC-32 of every byte before it,
so that no bit of the file can change unnoticed. A record is replaced in one step, never edited.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from dicm_jax.errors import DataError

_SEAL = ',\n "crc32": '


def save(path: Path, body: dict[str, Any]) -> None:
    """Writes a record anew: after a crash the file is the old one or this one.

    Args:
      path: of the record.
      body: JSON values; ``format`` and ``version`` are what `load` asks for.
    """
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(_seal(json.dumps(body, indent=1).removesuffix("\n}").encode()))
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync(path.parent)


def load(path: Path, *, format: str, version: int, what: str) -> dict[str, Any]:
    """Reads a record.

    Args:
      path: of the record.
      format: what the record must call its format.
      version: the newest version of the format that is understood.
      what: the record describes, with its article, e.g. ``"a feature table"``.

    Raises:
      DataError: no folder, no such file in it, another format, altered since it was written, or
        written by a later version of the format.
    """
    body = _unseal(path, _read(path, what), format, what)
    if body["version"] > version:
        raise DataError(
            f"{path}: version {body['version']} of the format; this dicm_jax reads versions up to "
            f"{version}: install a later one, or write {what.split(' ', 1)[1]} again with this one"
        )
    return body


def sync(path: Path) -> None:
    """Waits until a file, or the list of files of a folder, is safe on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        found = f"no {path.name} in it" if path.parent.is_dir() else "no such folder"
        raise DataError(
            f"{path.parent}: not {what}: {found}; give the folder that {what} was written to"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give the folder that {what} was written "
            "to, with leave to read it"
        ) from error


def _seal(head: bytes) -> bytes:
    return head + f'{_SEAL}"{zlib.crc32(head):08x}"\n}}\n'.encode()


def _unseal(path: Path, data: bytes, format: str, what: str) -> dict[str, Any]:
    head, seal, _ = data.rpartition(_SEAL.encode())
    if not seal and format.encode() not in data:
        raise DataError(
            f"{path}: not the metadata of {what} ({len(data)} bytes without its marks); give the "
            f"folder that {what} was written to"
        )
    if _seal(head) != data:
        raise DataError(
            f"{path}: altered since it was written: the CRC-32 at its end is not that of the "
            f"{len(head)} bytes before it; bring the file back from a copy, or write it anew"
        )
    body = json.loads(head + b"\n}")
    if body["format"] != format:
        raise DataError(
            f"{path}: format {body['format']!r}, not {format!r}; give the folder that {what} was "
            "written to"
        )
    return body
