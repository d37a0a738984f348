"""The published file format of Amazon image features, byte by byte."""

import struct

import numpy as np
import pytest

from dicm_jax.errors import DataError
from dicm_jax.features.amazon_file import RECORD, WIDTH, map_amazon_features

ASINS = ("B00AAAAAA1", "0000031852", "B00000000X")


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "image_features_Men.b"
    _write(path, ASINS)
    return path


def _values(record):
    return [record + at / 8 for at in range(WIDTH)]  # exact in float32


def _write(path, asins, values=_values):
    with path.open("wb") as file:
        for record, asin in enumerate(asins):
            file.write(asin.encode("ascii") + struct.pack(f"<{WIDTH}f", *values(record)))


def _fails(path, match):
    with pytest.raises(DataError, match=match):
        map_amazon_features(path)


def test_records_are_ten_bytes_and_4096_floats(path):
    assert RECORD.itemsize == 16_394
    assert path.stat().st_size == 3 * 16_394
    asins, rows_VD = map_amazon_features(path)
    assert asins.tolist() == list(ASINS)
    assert rows_VD.dtype == np.float32
    assert rows_VD.tolist() == [_values(record) for record in range(3)]


def test_rows_are_a_view_of_the_file_that_cannot_be_written(path):
    _, rows_VD = map_amazon_features(path)
    assert isinstance(rows_VD, np.memmap)
    assert not rows_VD.flags.writeable
    assert rows_VD.strides == (16_394, 4)
    with path.open("r+b") as file:  # what is on disk is what is seen
        file.seek(16_394 + 10)
        file.write(struct.pack("<f", 77.0))
    assert rows_VD[1, 0] == 77
    assert rows_VD[[2, 0]].flags.aligned


def test_missing_file(tmp_path):
    _fails(tmp_path / "none.b", r"none.b: no such file; name an image feature file")


@pytest.mark.parametrize(("size", "records", "rest"), [(0, 0, 0), (9, 0, 9), (49_181, 2, 16_393)])
def test_truncated_file(path, size, records, rest):
    path.write_bytes(path.read_bytes()[:size])
    _fails(
        path, rf"Men.b: {size} bytes are {records} records of 16394 and {rest} bytes more; .*again"
    )


def test_file_of_another_format(path):
    path.write_bytes(b"\x93NUMPY\x01\x00v\x00" + bytes(16_384))
    _fails(path, r"record 0 begins with b'\\x93NUMPY.*', which is no ASIN \(10 capitals and digits")


def test_file_that_lost_bytes_in_the_middle(path):
    data = path.read_bytes()
    path.write_bytes(data[:20_000] + data[20_004:] + bytes(4))
    _fails(path, r"record 2 begins with b'00000X.*', which is no ASIN")


def test_product_with_two_records(path):
    _write(path, ("B00AAAAAA1", "B00AAAAAA2", "B00AAAAAA1", "B00AAAAAA1"))
    _fails(path, r"2 of 4 records repeat an ASIN, first 'B00AAAAAA1' in record 2; keep one record")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_value_that_is_not_finite(path, bad):
    _write(path, ASINS, lambda record: [0.0] * 4095 + [bad if record else 0.0])
    _fails(path, r"NaN or infinity in the features of '0000031852' \(record 1\); download the file")
