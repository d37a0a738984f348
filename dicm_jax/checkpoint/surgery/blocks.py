"""Arrays of any size, read a block at a time.

Blocks are cut along the first axes only, so that in C order each of them is one run of bytes and
they follow each other: they can be written to a plain file one after the other.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

Shape = tuple[int, ...]
Region = tuple[slice, ...]

BLOCK_BYTES = 64 * 2**20
"""The most that is held of an array at once; also the size of chunks in what is written."""


@runtime_checkable
class BlockArray(Protocol):
    """An array that is read in parts.

    Attributes:
      shape, dtype: of the whole.
      chunk: shape of the parts that its storage holds together; reading less costs as much.
    """

    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def chunk(self) -> Shape: ...

    def read(self, region: Region) -> np.ndarray:
        """The part of the array that `region` names, one slice an axis."""
        ...


def n_bytes(array: BlockArray) -> int:
    """Bytes of the whole array."""
    return math.prod(array.shape) * array.dtype.itemsize


def block_shape(array: BlockArray) -> Shape:
    """The largest blocks of at most `BLOCK_BYTES` that fit the array's chunks."""
    if not n_bytes(array):
        return tuple(max(1, size) for size in array.shape)
    index_bytes = array.dtype.itemsize  # of all that lies at one index of the axis
    for axis in reversed(range(len(array.shape))):
        size = array.shape[axis]
        if index_bytes * size > BLOCK_BYTES:
            length = _fitting(max(1, BLOCK_BYTES // index_bytes), array.chunk[axis])
            return (1,) * axis + (length,) + array.shape[axis + 1 :]
        index_bytes *= size
    return array.shape


def regions(shape: Shape, block: Shape) -> Iterator[Region]:
    """The blocks of an array, in C order; none of an empty one, one of a scalar."""
    starts = [range(0, size, step) for size, step in zip(shape, block, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, block, shape, strict=True)
        )


def _fitting(most: int, chunk: int) -> int:
    """A length up to `most` that is whole chunks, or an even part of one."""
    if chunk > most:
        return -(-chunk // -(-chunk // most))
    return most // chunk * chunk
