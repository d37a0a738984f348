"""From image files to pixels of the network's size, in threads, ahead of the device.

What is done to an image, in this order; these are decisions, and features depend on them:

1. It is decoded by Pillow; of an animation, the first frame.
2. It is turned upright by its EXIF orientation: features are of the picture that people see.
3. It becomes RGB; transparency is dropped, not blended; 16-bit grays keep their upper 8 bits.
4. Its shorter side is resized to 8/7 of the network's size (256 for 224), bilinear with
   antialiasing, and the middle is cut out: the steps, and but for rounding the pixels, of
   torchvision's evaluation of VGG16. Only pixels of the middle are ever computed.

Shape legend
    B   images of a batch      S   height and width of the network's images
"""

import collections
import dataclasses
import io
import itertools
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dicm_jax.errors import DataError
from dicm_jax.features.image_list import ImageList

MOST_PIXELS = 89_478_485
"""An image of more pixels is a decompression bomb, or as good as one; Pillow's own limit."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What is decoded, whatever a file is called. Pillow knows more, among them EPS, which it has
Ghostscript run: photos of strangers must not be programs."""

_AHEAD = 3  # batches decoded or being decoded while one is encoded


class BadImageError(DataError):
    """A file that no picture can be had from; `reason` is one of a few words to count by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class DecodedBatch:
    """Pixels of consecutive images.

    Attributes:
      first: place of the first one in the list.
      pixels_BSSC: RGB; black where an image is bad and past the end of the list.
      count: images of the list in the batch.
      bad: errors of images that cannot be decoded, by their place in the batch.
    """

    first: int
    pixels_BSSC: UInt8[np.ndarray, "B S S 3"]
    count: int
    bad: dict[int, BadImageError]


def decode_batches(
    images: ImageList, first: int, *, batch_size: int, image_size: int, threads: int
) -> Generator[DecodedBatch, None, None]:
    """Decodes images from the one at `first` on, some batches ahead of the one that is taken.

    Args:
      images: all of them.
      first: place in the list to begin at.
      batch_size: ``B``; the last batch is filled up with black.
      image_size: ``S``.
      threads: that decode.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    running: collections.deque[tuple[int, np.ndarray, list[Future]]] = collections.deque()
    starts = iter(range(first, len(images.paths), batch_size))
    try:
        while True:
            for start in itertools.islice(starts, _AHEAD + 1 - len(running)):
                pixels_BSSC = np.zeros((batch_size, image_size, image_size, 3), np.uint8)
                paths = images.paths[start : start + batch_size]
                futures = [
                    pool.submit(_decode_into, room_SSC, images.root / path)
                    for path, room_SSC in zip(paths, pixels_BSSC, strict=False)
                ]
                running.append((start, pixels_BSSC, futures))
            if not running:
                return
            start, pixels_BSSC, futures = running.popleft()
            errors = {place: future.result() for place, future in enumerate(futures)}
            bad = {place: error for place, error in errors.items() if error is not None}
            yield DecodedBatch(start, pixels_BSSC, len(futures), bad)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decode(path: Path, image_size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The pixels of one image.

    Raises:
      BadImageError: there is no such file, it is empty, not an image, damaged, or too large.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BadImageError("missing", f"{path}: no such file; correct the list") from error
    except OSError as error:
        raise _damaged(str(path), error) from error
    return decode_bytes(data, str(path), image_size)


def decode_bytes(data: bytes, name: str, image_size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The pixels of an image file that is in memory.

    Args:
      data: of the file.
      name: what messages call it.
      image_size: ``S``.

    Raises:
      BadImageError: it is empty, not an image, damaged, or too large.
    """
    if not data:
        raise BadImageError("empty", f"{name}: an empty file; bring it back or remove it")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise _too_large(name, f"{image.width} x {image.height}")
            return _prepared(image, image_size)
    except BadImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except UnidentifiedImageError as error:
        raise BadImageError(
            "not an image", f"{name}: not an image ({', '.join(FORMATS)}); remove it"
        ) from error
    except Exception as error:  # decoders of damaged files raise what they happen to stumble over
        raise _damaged(name, error) from error


def _decode_into(room_SSC: np.ndarray, path: Path) -> BadImageError | None:
    try:
        room_SSC[:] = decode(path, len(room_SSC))
    except BadImageError as error:
        return error
    return None


def _damaged(name: str, error: Exception) -> BadImageError:
    return BadImageError(
        "damaged", f"{name}: cannot be decoded ({error}); bring it back or remove it"
    )


def _too_large(name: str, found: str) -> BadImageError:
    return BadImageError(
        "too large",
        f"{name}: {found} pixels, more than the {MOST_PIXELS:,} that are decoded; make it smaller",
    )


def _prepared(image: Image.Image, image_size: int) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        gray = np.asarray(upright)
        upright = Image.fromarray((gray >> 8).astype(np.uint8))
    rgb = upright.convert("RGB")
    box = _middle(rgb.width, rgb.height, image_size)
    return np.asarray(rgb.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box))


def _middle(width: int, height: int, image_size: int) -> tuple[float, float, float, float]:
    """What the middle of the resized image is in the image itself: left, top, right, bottom."""
    shorter = image_size * 8 // 7
    sides = [shorter * side // min(width, height) for side in (width, height)]
    left, top = (round((side - image_size) / 2) for side in sides)
    across, down = width / sides[0], height / sides[1]
    return (left * across, top * down, (left + image_size) * across, (top + image_size) * down)
