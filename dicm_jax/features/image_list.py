"""Which images there are: a folder of them, or a CSV or Parquet list with columns id and path."""

import dataclasses
import os
import zlib
from pathlib import Path

import pyarrow as pa

from dicm_jax.errors import DataError
from dicm_jax.features import text_columns
from dicm_jax.features.repeated_ids import repeated
from dicm_jax.features.text_columns import read_text_columns

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files of a folder that are taken for images."""


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images in the order in which they are encoded.

    Attributes:
      root: folder that paths start from.
      ids: of each image.
      paths: of each image, below `root` or absolute.
      other_files: files of the folder that are not images by their suffix.
    """

    root: Path
    ids: list[str]
    paths: list[str]
    other_files: int

    @property
    def crc(self) -> int:
        """CRC-32 of IDs and paths: of the list, not of the images' pixels."""
        crc = 0
        for line in zip(self.ids, self.paths, strict=True):
            crc = zlib.crc32(repr(line).encode("utf-8", "surrogateescape"), crc)
        return crc


def list_images(source: Path) -> ImageList:
    """Lists a folder with all folders below it, or reads a list.

    The ID of a file in a folder is its name without the suffix; files are ordered by their path.
    Paths of a list start from the folder that the list is in.

    Raises:
      DataError: no such folder or list, a list without the columns, no images, or an ID that two
        images have.
    """
    if source.is_dir():
        images = _of_folder(source)
    elif source.is_file() and source.suffix.lower() in text_columns.SUFFIXES:
        images = _of_list(source)
    else:
        found = "a file" if source.is_file() else "no such file or folder"
        raise DataError(
            f"{source}: {found}; give a folder of images, or a .csv or .parquet list with columns "
            "id and path"
        )
    if not images.ids:
        raise DataError(
            f"{source}: no images, but {images.other_files} other files; files that end in "
            f"{', '.join(SUFFIXES)} are taken for images"
        )
    _check_distinct(source, images)
    return images


def _of_folder(root: Path) -> ImageList:
    paths, other_files = [], 0
    for folder, _, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                paths.append(os.path.normpath(os.path.join(inside, name)))
            else:
                other_files += 1
    _check_text(root, paths)
    paths.sort()
    return ImageList(root, [Path(path).stem for path in paths], paths, other_files)


def _check_text(root: Path, paths: list[str]) -> None:
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        bad = next(path for path in paths if path.encode(errors="ignore").decode() != path)
        raise DataError(
            f"{root}: file name {bad!r} has bytes that are no text; rename it, as IDs are text"
        ) from None


def _of_list(source: Path) -> ImageList:
    ids, paths = read_text_columns(source, ("id", "path"))
    return ImageList(source.parent, ids.to_pylist(), paths.to_pylist(), other_files=0)


def _check_distinct(source: Path, images: ImageList) -> None:
    twice = repeated(pa.array(images.ids, pa.string()))
    if twice is not None:
        first, second = (images.paths[row] for row in twice.rows)
        raise DataError(
            f"{source}: {twice.count} IDs are those of several images, the first is {twice.id!r}: "
            f"{first} and {second}; rename one of each, or give a list with columns id and path"
        )
