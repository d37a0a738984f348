"""``manifest.json``: every file of a folder with its length and CRC-32, in a sealed list.

What is written once and read for long (a checkpoint, a servable) ends with this list: a folder
without one is not whole. The files are compared with it before they are used.
"""

import concurrent.futures
import dataclasses
from pathlib import Path
from typing import Any

from dicm_jax import sealed_json
from dicm_jax.errors import DataError, DicmError
from dicm_jax.features.file_crc import file_crc

NAME = "manifest.json"
_READERS = 4
"""Files read at a time; checksums are taken outside of Python's lock."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The list of the files of one kind of folder.

    Attributes:
      format: what it calls itself.
      version: the newest that is understood, and the one written.
      what: the folder is, with its article, e.g. ``"a whole checkpoint"``.
      remedy: what to do about a folder that is not what its list says.
      error: raised of such a folder.
    """

    format: str
    version: int
    what: str
    remedy: str
    error: type[DicmError]

    def write(self, folder: Path) -> None:
        """Lists the files of a folder, which must all be there; the list is safe on disk then."""
        names = _files(folder)
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            crcs = pool.map(lambda name: file_crc(folder / name), names)
            files = {
                name: [(folder / name).stat().st_size, crc]
                for name, crc in zip(names, crcs, strict=True)
            }
        body = {"format": self.format, "version": self.version, "files": files}
        sealed_json.save(folder / NAME, body)

    def read(self, folder: Path) -> dict[str, Any]:
        """What the list of a folder holds; ``files`` gives length and CRC-32 by name.

        Raises:
          DicmError: `error`: there is none, it was altered, or a later version wrote it.
        """
        try:
            return sealed_json.load(
                folder / NAME, format=self.format, version=self.version, what=self.what
            )
        except DataError as error:
            raise self.error(f"{error} (or: {self.remedy})") from error

    def check(self, folder: Path, *, part: int = 0, parts: int = 1) -> None:
        """Reads the files of a folder and compares them with its list.

        Args:
          folder: the folder.
          part, parts: several processes share the reading: this one takes every `parts`-th file.
            What files there are, and their lengths, each of them looks at.

        Raises:
          DicmError: `error`: a file is missing, was cut, altered or added, or cannot be read; the
            first is named.
        """
        try:
            self._check(folder, part, parts)
        except OSError as error:
            raise self.error(f"{folder}: cannot be read ({error}): {self.remedy}") from error

    def _check(self, folder: Path, part: int, parts: int) -> None:
        listed = self.read(folder)["files"]
        found = _files(folder)
        for name in sorted({*listed} ^ {*found}):
            what = "is missing" if name in listed else "is not in its manifest"
            raise self.error(f"{folder}: {name} {what}: {self.remedy}")
        for name, (size, _) in listed.items():
            now = (folder / name).stat().st_size
            if now != size:
                raise self.error(
                    f"{folder}: {name} has {now:,} bytes, its manifest says {size:,}: {self.remedy}"
                )
        own = sorted(listed)[part::parts]
        with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
            crcs = pool.map(lambda name: file_crc(folder / name), own)
            for name, crc in zip(own, crcs, strict=True):
                if crc != listed[name][1]:
                    raise self.error(
                        f"{folder}: {name} was altered since it was written: its CRC-32 is"
                        f" {crc:08x}, its manifest says {listed[name][1]:08x}: {self.remedy}"
                    )


def _files(folder: Path) -> list[str]:
    """Names of all files but the manifest, relative to the folder, sorted."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in found if path.as_posix() != NAME)
