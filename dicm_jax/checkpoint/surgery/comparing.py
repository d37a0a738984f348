"""What differs between two checkpoints.

Shape legend
    N   elements of a piece of an array
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dicm_jax.checkpoint.surgery.blocks import BlockArray, block_shape, regions
from dicm_jax.checkpoint.surgery.source import Source


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of an array that both checkpoints have.

    Attributes:
      name: of the array.
      shapes, dtypes: in the first checkpoint and in the second.
      elements: how many differ, by their bits where formats are the same; None where shapes differ.
      largest: the largest absolute difference of two numbers; None where shapes differ.
      relative: the norm of all differences over the norm of the first array.
      not_numbers: elements of which one is NaN and the other is not.
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[str, str]
    elements: int | None = None
    largest: float | None = None
    relative: float | None = None
    not_numbers: int = 0

    @property
    def equal(self) -> bool:
        """Whether shape, format and every bit are the same."""
        return self.elements == 0 and len({*self.dtypes}) == 1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two checkpoints.

    Attributes:
      only_in: names that only the first has, and only the second.
      shared: what was found of the others.
      record: entries of the records that differ; whoever cuts a checkpoint adds to its record.
    """

    only_in: tuple[list[str], list[str]]
    shared: list[Difference]
    record: list[str]

    @property
    def equal(self) -> bool:
        """Whether both have the same arrays, bit for bit."""
        return not any(self.only_in) and all(each.equal for each in self.shared)

    def as_json(self) -> dict[str, Any]:
        """For the command's JSON."""
        return {
            "equal": self.equal,
            "only_in_first": self.only_in[0],
            "only_in_second": self.only_in[1],
            "compared": len(self.shared),
            "differing": [_finite(dataclasses.asdict(d)) for d in self.shared if not d.equal],
            "record": self.record,
        }


def compare(first: Source, second: Source, moved: Callable[[int], object]) -> Comparison:
    """Reads both checkpoints, a block at a time.

    Raises:
      CheckpointError: an array cannot be read.
    """
    ours, theirs = first.arrays, second.arrays
    shared = [_difference(name, ours[name], theirs[name], moved) for name in ours if name in theirs]
    names = sorted({*first.record, *second.record})
    record = [name for name in names if first.record.get(name) != second.record.get(name)]
    only = ([n for n in ours if n not in theirs], [n for n in theirs if n not in ours])
    return Comparison(only, shared, record)


def _difference(
    name: str, one: BlockArray, other: BlockArray, moved: Callable[[int], object]
) -> Difference:
    found = Difference(name, (one.shape, other.shape), (one.dtype.name, other.dtype.name))
    if one.shape != other.shape:
        return found
    tally = _Tally(one.dtype == other.dtype)
    for region in regions(one.shape, block_shape(one)):
        ours, theirs = one.read(region), other.read(region)
        for ours_N, theirs_N in zip(_pieces(ours), _pieces(theirs), strict=True):
            tally.add(ours_N, theirs_N)
        moved(ours.nbytes)
    return dataclasses.replace(
        found,
        elements=tally.elements,
        largest=tally.largest,
        relative=tally.relative,
        not_numbers=tally.not_numbers,
    )


class _Tally:
    """What is counted of an array, piece by piece.

    Args:
      by_bits: elements differ if a bit of them does; else if their values do.
    """

    def __init__(self, by_bits: bool):
        self._by_bits = by_bits
        self.elements = self.not_numbers = 0
        self.largest = self._apart = self._size = 0.0

    def add(self, ours_N: np.ndarray, theirs_N: np.ndarray) -> None:
        """Takes in a piece of both arrays."""
        wide_N = ours_N.astype(np.float64)
        finite_N = wide_N[np.isfinite(wide_N)]
        self._size += float(np.dot(finite_N, finite_N))
        if self._by_bits and np.array_equal(_bits(ours_N), _bits(theirs_N)):
            return
        other_N = theirs_N.astype(np.float64)
        nan_N, other_nan_N = np.isnan(wide_N), np.isnan(other_N)
        same_N = (wide_N == other_N) | (nan_N & other_nan_N)
        differs_N = _bits(ours_N) != _bits(theirs_N) if self._by_bits else ~same_N
        self.elements += int(np.count_nonzero(differs_N))
        self.not_numbers += int(np.count_nonzero(nan_N != other_nan_N))
        numbers_N = ~(same_N | nan_N | other_nan_N)
        gap_N = np.abs(wide_N[numbers_N] - other_N[numbers_N])
        self.largest = max(self.largest, float(gap_N.max(initial=0.0)))
        self._apart += float(np.dot(gap_N, gap_N))

    @property
    def relative(self) -> float:
        """The norm of all differences over that of the first array."""
        if not self._apart:
            return 0.0
        return math.sqrt(self._apart / self._size) if self._size else math.inf


def _pieces(values: np.ndarray, most: int = 2**20) -> list[np.ndarray]:
    """Flat pieces of a block, small enough to be held in float64 several times."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return [flat[start : start + most] for start in range(0, len(flat), most)]


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.dtype.itemsize}")


def _finite(body: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinities."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in body.items()
    }


def text(found: Comparison, paths: Sequence[object]) -> str:
    """For people: a line for all that differs."""
    lines = [
        f"only in {path}: {name}"
        for path, names in zip(paths, found.only_in, strict=True)
        for name in names
    ]
    lines += [_line(each) for each in found.shared if not each.equal]
    if found.record:
        lines.append(f"records differ in {', '.join(found.record)} (which is not counted)")
    equal = sum(each.equal for each in found.shared)
    return "\n".join([*lines, f"{equal} of {len(found.shared)} shared arrays are equal"])


def _line(found: Difference) -> str:
    one, other = found.shapes
    if one != other:
        return f"{found.name}: shape {list(one)}, then {list(other)}"
    kind = "" if len({*found.dtypes}) == 1 else f"{found.dtypes[0]}, then {found.dtypes[1]}; "
    nan = f", {found.not_numbers} NaN in one of them" if found.not_numbers else ""
    return (
        f"{found.name}: {kind}{found.elements:,} of {math.prod(one):,} elements differ{nan};"
        f" largest difference {found.largest:.6g}, relative norm {found.relative:.6g}"
    )
