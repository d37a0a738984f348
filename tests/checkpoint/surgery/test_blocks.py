"""Blocks cover an array once, in C order, are small enough, and fit its chunks."""

import dataclasses
import math

import numpy as np
import pytest

from dicm_jax.checkpoint.surgery import blocks
from dicm_jax.checkpoint.surgery.blocks import Region, Shape, block_shape, regions


@dataclasses.dataclass(frozen=True)
class Held:
    """An array in memory."""

    values: np.ndarray
    chunk: Shape

    @property
    def shape(self) -> Shape:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def read(self, region: Region) -> np.ndarray:
        return self.values[region]


def held(shape: Shape, chunk: Shape | None = None) -> Held:
    values = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    return Held(values, chunk or shape)


@pytest.mark.parametrize("most", [4, 40, 100, 1000, 10**6])
@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (97,), (5, 0, 3), (13, 7), (2, 3, 50), (300, 2), (1, 1, 64)]
)
def test_blocks_are_runs_of_bytes_that_follow_each_other(monkeypatch, shape, most):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", most)
    array = held(shape)
    parts = [array.read(region) for region in regions(shape, block_shape(array))]
    whole = b"".join(part.tobytes() for part in parts)
    assert whole == array.values.tobytes()
    assert all(0 < part.nbytes <= max(most, 4) for part in parts)
    if most >= array.values.nbytes:
        assert len(parts) == min(1, array.values.size) if shape else 1


@pytest.mark.parametrize(
    ("rows", "chunk", "most_rows", "expected"),
    [
        (1000, 100, 100, 100),
        (1000, 100, 350, 300),  # whole chunks
        (1000, 100, 30, 25),  # even parts of one: four, not three and a bit
        (1009, 1009, 300, 253),
        (1000, 7, 1000, 1000),  # all of it
    ],
)
def test_blocks_fit_chunks(monkeypatch, rows, chunk, most_rows, expected):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", most_rows * 8)
    assert block_shape(held((rows, 2), (chunk, 2))) == (expected, 2)
