"""Photos of the items of examples, small enough for a page, and what stands for those not there.

Shape legend
    N   items
"""

import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageOps

from dicm_jax.data.inspection.walk import OpenSet
from dicm_jax.data.looks import looks
from dicm_jax.data.prepared import manifest
from dicm_jax.data.schema import NO_IMAGE, StoredFeatures
from dicm_jax.errors import DataError
from dicm_jax.features.image_decoding import FORMATS, BadImageError, decode
from dicm_jax.features.image_list import ImageList, list_images

LARGEST = 32 * 1024
"""Bytes of a file that is put into a page as it is; larger ones are made smaller."""
_THUMBNAIL = (192, 288)
_QUALITY = 82


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What the items of examples look like.

    Attributes:
      row: image row of each item, or `NO_IMAGE`.
      photos: JPEG or PNG files by image row.
      looks: by image row, the coordinates of its features that a picture is drawn from; None where
        there is no feature table to take them from.
      bad: files that are not photos, by reason.
    """

    row: dict[int, int]
    photos: dict[int, bytes]
    looks: dict[int, list[float] | None]
    bad: dict[str, int]


def photo_files(folder: Path) -> ImageList:
    """The photos of a folder and of all folders below it; the ID of one is its name.

    Raises:
      DataError: no such folder, no photo in it, or two of one name.
    """
    if not folder.exists():
        raise DataError(f"--photos={folder}: no such folder; give the folder of the photos")
    return list_images(folder)


def pictures_of(
    opened: OpenSet, items: Iterable[int], photos: ImageList | None, features: StoredFeatures | None
) -> Pictures:
    """Finds or draws what items look like.

    Args:
      opened: the set.
      items: to be shown.
      photos: all there are; None: none.
      features: where there are no photos, pictures are drawn from these rows; None: from nothing.

    Raises:
      DataError: none of the items has a photo among `photos`; the set does not know their names.
    """
    row = {item: int(opened.items.image_N[item]) for item in items}
    rows = sorted(set(row.values()) - {NO_IMAGE})
    found, bad = {}, {}
    if photos is not None and rows:
        item_of = {of_item: item for item, of_item in row.items()}
        found, bad = _found(opened, {r: item_of[r] for r in rows}, photos)
    without = [r for r in rows if r not in found]
    drawn: dict[int, list[float] | None] = dict.fromkeys(rows)
    if without and features is not None:
        drawn |= dict(zip(without, looks(features, without).tolist(), strict=True))
    return Pictures(row, found, drawn, bad)


def _found(
    opened: OpenSet, item_of: dict[int, int], photos: ImageList
) -> tuple[dict[int, bytes], dict[str, int]]:
    """Photos by image row, and files that are none by reason."""
    ids = dict(zip(item_of, image_ids(opened, list(item_of.values())), strict=True))
    wanted = set(ids.values())
    path_of = {
        name: photos.root / path
        for name, path in zip(photos.ids, photos.paths, strict=True)
        if name in wanted
    }
    if not path_of:
        raise DataError(
            f"--photos={photos.root}: none of its {len(photos.ids):,} photos is of the"
            f" {len(ids)} items that are shown: their image IDs are {next(iter(ids.values()))!r}"
            f" and so on, the first file is {photos.paths[0]}; give the folder whose files are"
            " named by the IDs"
        )
    found: dict[int, bytes] = {}
    bad: dict[str, int] = {}
    for row, name in ids.items():
        try:
            if name in path_of:
                found[row] = small_photo(path_of[name])
        except BadImageError as error:
            bad[error.reason] = bad.get(error.reason, 0) + 1
    return found, bad


def image_ids(opened: OpenSet, items: list[int]) -> list[str | None]:
    """The ID of each item's image in the source.

    Raises:
      DataError: the set has none.
    """
    path = opened.root / manifest.ITEM_IDS
    if "image" not in pyarrow.parquet.read_schema(path).names:
        raise DataError(
            f"{path}: no column image, so nobody knows which photo is whose: this set was made by a"
            " reader, not from tables; leave out --photos"
        )
    column = pyarrow.parquet.read_table(path, columns=["image"]).column("image")
    return column.take(np.array(items, np.int64)).to_pylist()


def small_photo(path: Path) -> bytes:
    """A photo as a small JPEG or PNG file.

    Raises:
      BadImageError: it is not an image, damaged, or too large.
    """
    decode(path, image_size=8)  # all of it, with its clear errors
    with Image.open(path, formats=FORMATS) as image:
        if image.format in ("JPEG", "PNG") and path.stat().st_size <= LARGEST:
            return path.read_bytes()
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail(_THUMBNAIL)
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
