"""``manifest.json``: every file of a checkpoint with its length and CRC-32.

Orbax restores a flipped bit without a word, and does not miss every file that is gone. So a
checkpoint has a sealed list of its files, which is written before the checkpoint gets its name: a
folder without one is not whole. It is compared before anything is restored.
"""

import concurrent.futures
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.errors import CheckpointError, DataError
from dicm_jax.features.file_crc import file_crc

NAME = "manifest.json"
_FORMAT, _VERSION = "dicm_jax checkpoint", 1
_READERS = 4
"""Files read at a time; checksums are taken outside of Python's lock."""
_REMEDY = (
    "bring the checkpoint back from a copy, or remove its folder to go on from an older one;"
    " nothing has been changed"
)


def write(folder: Path) -> None:
    """Lists the files of a checkpoint, which must all be there; the list is safe on disk then.

    Args:
      folder: of the checkpoint, all of whose files are in place.
    """
    names = _files(folder)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        crcs = pool.map(lambda name: file_crc(folder / name), names)
        files = {
            name: [(folder / name).stat().st_size, crc]
            for name, crc in zip(names, crcs, strict=True)
        }
    body = {"format": _FORMAT, "version": _VERSION, "files": files}
    sealed_json.save(folder / NAME, body)


def read(folder: Path) -> dict[str, Any]:
    """What the manifest of a checkpoint holds; ``files`` gives length and CRC-32 by name.

    Raises:
      CheckpointError: there is none, it was altered, or a later version wrote it.
    """
    try:
        return sealed_json.load(
            folder / NAME, format=_FORMAT, version=_VERSION, what="a whole checkpoint"
        )
    except DataError as error:
        raise CheckpointError(f"{error} (or: {_REMEDY})") from error


def check(folder: Path, *, part: int = 0, parts: int = 1) -> None:
    """Reads the files of a checkpoint and compares them with its manifest.

    Args:
      folder: of the checkpoint.
      part, parts: several processes share the reading: this one takes every `parts`-th file. What
        files there are, and their lengths, each of them looks at.

    Raises:
      CheckpointError: a file is missing, was cut, altered or added, or cannot be read; the first is
        named.
    """
    try:
        _check(folder, part, parts)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error}): {_REMEDY}") from error


def _check(folder: Path, part: int, parts: int) -> None:
    listed = read(folder)["files"]
    found = _files(folder)
    for name in sorted({*listed} ^ {*found}):
        what = "is missing" if name in listed else "is not in its manifest"
        raise CheckpointError(f"{folder}: {name} {what}: {_REMEDY}")
    for name, (size, _) in listed.items():
        now = (folder / name).stat().st_size
        if now != size:
            raise CheckpointError(
                f"{folder}: {name} has {now:,} bytes, its manifest says {size:,}: {_REMEDY}"
            )
    own = sorted(listed)[part::parts]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for name, crc in zip(own, pool.map(lambda name: file_crc(folder / name), own), strict=True):
            if crc != listed[name][1]:
                raise CheckpointError(
                    f"{folder}: {name} was altered since it was written: its CRC-32 is {crc:08x},"
                    f" its manifest says {listed[name][1]:08x}: {_REMEDY}"
                )


def _files(folder: Path) -> list[str]:
    """Names of all files but the manifest, relative to the folder, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in found if path.as_posix() != NAME)
