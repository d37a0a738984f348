"""Pixels are those of the stated steps, and what is no picture is told apart from what is.

Shape legend
    S   height and width of the network's images
"""

import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from dicm_jax.features import image_decoding
from dicm_jax.features.image_decoding import BadImageError, decode, decode_batches
from dicm_jax.features.image_list import ImageList

S = 224


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse noise, so that a photo of any size has edges."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def resized_then_cut(image: Image.Image) -> np.ndarray:
    """The steps of torchvision's evaluation, one after the other."""
    shorter = min(image.size)
    width, height = (int(256 * side / shorter) for side in image.size)
    left, top = (round((side - S) / 2) for side in (width, height))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + S, top + S)))


@pytest.mark.parametrize(
    "size", [(64, 96), (96, 64), (500, 333), (224, 224), (1, 1000), (3000, 20), (37, 41), (1, 1)]
)
def test_shorter_side_to_256_and_the_middle_of_it(size, tmp_path):
    image = photo(*size)
    image.save(tmp_path / "photo.png")
    found = decode(tmp_path / "photo.png", S).astype(int)
    assert found.shape == (S, S, 3)
    assert np.abs(found - resized_then_cut(image)).max() <= 1  # rounding


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_upright(orientation, tmp_path):
    upright = photo(300, 260)
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # is to be turned by 270
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(transposed[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(
        decode(tmp_path / "photo.png", S), decode_saved(upright, tmp_path / "upright.png")
    )


def decode_saved(image: Image.Image, path) -> np.ndarray:
    image.save(path)
    return decode(path, S)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    gray = photo(256, 256).convert("L")
    if mode == "I;16":
        sixteen = np.asarray(gray).astype(np.uint16) << 8 | 0x7F
        image = Image.fromarray(sixteen)
        assert image.mode == mode
    else:
        image = gray.convert(mode)
    found = decode_saved(image, tmp_path / ("photo.tiff" if mode == "CMYK" else "photo.png"))
    assert (found == found[..., :1]).all()
    if mode != "1":
        np.testing.assert_allclose(found, decode_saved(gray, tmp_path / "gray.png"), atol=1)


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that say they are a large image."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head) - 4) + head + struct.pack(">I", zlib.crc32(head))
    data = b"IDAT" + zlib.compress(b"\0")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
%%EndComments
(a program) print
%%EOF
"""


def jpeg(tmp_path) -> bytes:
    photo(300, 300).save(tmp_path / "whole.jpg")
    return (tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "reason", "match"),
    [
        (lambda _: b"", "empty", "bad.jpg: an empty file"),
        (lambda _: b"not a picture", "not an image", r"bad.jpg: not an image \(JPEG, PNG"),
        (lambda _: EPS, "not an image", r"bad.jpg: not an image"),
        (lambda path: jpeg(path)[:2000], "damaged", "bad.jpg: cannot be decoded .*truncated"),
        (lambda _: png_of_size(40_000, 40_000), "too large", "bad.jpg: .* make it smaller"),
        (lambda _: png_of_size(10_000, 9_000), "too large", "bad.jpg: .* make it smaller"),
        (lambda _: None, "missing", "bad.jpg: no such file"),
    ],
)
def test_what_is_no_picture(content, reason, match, tmp_path):
    data = content(tmp_path)
    if data is not None:
        (tmp_path / "bad.jpg").write_bytes(data)
    with pytest.raises(BadImageError, match=match) as caught:
        decode(tmp_path / "bad.jpg", S)
    assert caught.value.reason == reason


def images_in(folder, count: int) -> ImageList:
    paths = [f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / path)
    return ImageList(folder, [path[:-4] for path in paths], paths, other_files=0)


def test_batches_hold_every_image_in_order_and_bad_ones_are_black(tmp_path):
    images = images_in(tmp_path, 23)
    (tmp_path / "13.png").write_bytes(b"")
    batches = list(decode_batches(images, 8, batch_size=4, image_size=7, threads=3))
    assert [batch.first for batch in batches] == [8, 12, 16, 20]
    assert [batch.count for batch in batches] == [4, 4, 4, 3]
    assert [list(batch.bad) for batch in batches] == [[], [1], [], []]
    reds = [int(image[0, 0, 0]) for batch in batches for image in batch.pixels_BSSC]
    assert reds == [8, 9, 10, 11, 12, 0, 14, 15, 16, 17, 18, 19, 20, 21, 22, 0]


def test_a_bounded_number_of_images_is_decoded_ahead(tmp_path, monkeypatch):
    decoded = []
    real = image_decoding.decode
    monkeypatch.setattr(
        image_decoding, "decode", lambda path, size: (decoded.append(path), real(path, size))[1]
    )
    batches = decode_batches(images_in(tmp_path, 40), 0, batch_size=2, image_size=7, threads=2)
    next(batches)
    batches.close()
    assert len(decoded) <= 2 * (image_decoding._AHEAD + 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
