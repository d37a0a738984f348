"""Other number formats: the numbers are those of NumPy, and what does not fit is told."""

import ml_dtypes
import numpy as np
import pytest

from dicm_jax.checkpoint.surgery import blocks
from tests.checkpoint.surgery import made
from tests.checkpoint.surgery.made import arrays, assert_same_bits, run, told


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("source"), made.state())


@pytest.mark.parametrize("block_bytes", [blocks.BLOCK_BYTES, 1000])
def test_cast_is_numpys(source, tmp_path, capsys, monkeypatch, block_bytes):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)
    pairs = ("ids.*=float16", "ids.mu=bfloat16", "params.net.kernel=float64", "*.counts=int8")
    said = told(capsys, "cast", source, *pairs, f"--output={tmp_path / 'out'}")
    before, after = arrays(source), arrays(tmp_path / "out")
    expected = before | {
        "ids.row": before["ids.row"].astype(np.float16),
        "ids.nu": before["ids.nu"].astype(np.float16),
        "ids.mu": before["ids.mu"].astype(ml_dtypes.bfloat16),  # the last pair holds
        "params.net.kernel": before["params.net.kernel"].astype(np.float64),
        "params.net.counts": before["params.net.counts"].astype(np.int8),
    }
    assert_same_bits(after, expected)
    assert said["cast"]["ids.mu"] == ["float32", "bfloat16"]
    assert said["became_infinite"] == {}


def test_a_wider_format_and_back_is_the_same(source, tmp_path, capsys):
    told(capsys, "cast", source, "*.kernel=float32", "*.counts=int64", f"--output={tmp_path / 'a'}")
    pairs = ("*.kernel=bfloat16", "*.counts=int32")
    told(capsys, "cast", tmp_path / "a", *pairs, f"--output={tmp_path / 'b'}")
    assert_same_bits(arrays(tmp_path / "b"), arrays(source))


def test_numbers_that_become_infinite_are_counted(source, tmp_path, capsys):
    said = told(capsys, "cast", source, "params.net.bias=float16", f"--output={tmp_path / 'out'}")
    assert said["became_infinite"] == {"params.net.bias": 1}  # 3.4e38; the other is so already
    assert made.record(tmp_path / "out")["surgery"][0]["became_infinite"] == {"params.net.bias": 1}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("ids.*=float13", "'float13' is no number format here: the nearest are float32, float16"),
        ("ids.*=int8", "ids.mu is float32 and cannot be cast to int8: floats are cast to floats"),
        ("step=float32", "step is int32 and cannot be cast to float32"),
        ("params.net.counts=uint8", "of int32 does not fit uint8; cast to a wider format"),
        ("ids.*", "'ids.*' is not of the form PATTERN=DTYPE"),
        ("idx.*=float16", "'idx.*' means none of the 10 arrays"),
    ],
)
def test_formats_that_cannot_be(source, tmp_path, capsys, pair, message):
    assert run("cast", source, pair, f"--output={tmp_path / 'out'}") == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
