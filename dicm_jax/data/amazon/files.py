"""The files of an Amazon set: which of a folder they are, and the objects on the lines of one.

The sets of J. McAuley, https://jmcauley.ucsd.edu/data/amazon/: ``reviews_<category>.json.gz`` (all,
or the 5-core), ``ratings_<category>.csv``, ``meta_<category>.json.gz`` and
``image_features_<category>.b``. Each may be unpacked. A line of a ``.json`` file is one object:
strict JSON in reviews, the literal of a Python dictionary in metadata. Both are read in both.
"""

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dicm_jax.errors import DataError

REVIEWS = ("reviews_*.json", "reviews_*.json.gz", "ratings_*.csv")
METADATA = ("meta_*.json", "meta_*.json.gz")
FEATURES = ("image_features_*.b", "*.npz", "*.npy")

_SHOWN = 80  # characters of a line that cannot be read


def find(
    root: Path, given: str | None, patterns: tuple[str, ...], setting: str, *, needed: bool = True
) -> Path | None:
    """The file named, or the only one in `root` that a pattern fits.

    Args:
      root: the folder of the set.
      given: its name in `root`, or a path; None looks for it.
      patterns: names that it may have.
      setting: what names it, for messages.
      needed: whether there must be one.

    Returns:
      The file; None if there is none and none is needed.

    Raises:
      DataError: no such folder or file; several fit, or none does and one is needed.
    """
    if not root.is_dir():
        raise DataError(
            f"Amazon data at {root}: no such folder; give the folder that holds {REVIEWS[0]}"
        )
    beside = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    if given is not None:
        if not (root / given).is_file():
            raise DataError(f"{root / given}: no such file; found {beside}; set {setting} anew")
        return root / given
    found = sorted({path for pattern in patterns for path in root.glob(pattern)})
    if len(found) > 1 or (needed and not found):
        raise DataError(
            f"Amazon data at {root}: {len(found)} of {' or '.join(patterns)} found, "
            f"{[path.name for path in found] or beside}; put one there, or name the one to take "
            f"with {setting}"
        )
    return found[0] if found else None


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The object on each line of a ``.json`` or ``.json.gz`` file, with the line's number from 1.

    A line that is not JSON is taken for a Python literal, which is parsed and never executed; that
    takes some twenty times as long. Empty lines are passed over.

    Raises:
      DataError: a file that cannot be read to its end, or a line that is no object.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(path, number, line)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}, after line {number}: cannot be read on ({error}); it may be cut short: "
            "download it again"
        ) from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = _value(line.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise _bad_line(
            path, number, line, f"neither JSON nor a Python literal ({error})"
        ) from None
    if not isinstance(value, dict):
        raise _bad_line(path, number, line, f"a {type(value).__name__}")
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return ast.literal_eval(text)


def _bad_line(path: Path, number: int, line: bytes, found: str) -> DataError:
    shown = line[:_SHOWN].decode("utf-8", "replace").strip()
    return DataError(
        f"{path}, line {number}: {found} where an object belongs: {shown!r}; repair that line or "
        "download the file again"
    )
