"""What is in a checkpoint: a tree of arrays, their norms, vocabularies, the rest of the record."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dicm_jax.checkpoint.surgery.blocks import BlockArray, block_shape, n_bytes, regions
from dicm_jax.checkpoint.surgery.source import Source

_SHOWN_APART = ("vocabularies", "settings", "surgery")


@dataclasses.dataclass(frozen=True)
class Values:
    """What the elements of an array are like.

    Attributes:
      norm: Euclidean, of the finite ones, in float64.
      zeros: share that is zero.
      not_finite: share that is NaN or infinite.
    """

    norm: float
    zeros: float
    not_finite: float


def values_of(array: BlockArray, moved: Callable[[int], object]) -> Values:
    """Reads an array, a block at a time.

    Raises:
      CheckpointError: it cannot be read.
    """
    squares, zeros, not_finite = 0.0, 0, 0
    for region in regions(array.shape, block_shape(array)):
        block = array.read(region)
        flat = block.reshape(-1)
        for start in range(0, len(flat), 2**20):
            wide = flat[start : start + 2**20].astype(np.float64)
            finite = np.isfinite(wide)
            zeros += len(wide) - int(np.count_nonzero(wide))
            not_finite += len(wide) - int(np.count_nonzero(finite))
            kept = wide if finite.all() else wide[finite]
            squares += float(np.dot(kept, kept))
        moved(block.nbytes)
    count = max(1, math.prod(array.shape))
    return Values(math.sqrt(squares), zeros / count, not_finite / count)


def as_json(source: Source, values: dict[str, Values]) -> dict[str, Any]:
    """All of it as one JSON object."""
    return {
        **source.as_json(),
        "bytes": sum(map(n_bytes, source.arrays.values())),
        "arrays": {
            name: {
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "bytes": n_bytes(array),
                "chunk": list(array.chunk),
                **({} if name not in values else dataclasses.asdict(values[name])),
            }
            for name, array in source.arrays.items()
        },
        "record": source.record,
    }


def text(source: Source, values: dict[str, Values]) -> str:
    """All of it for people: a tree of the arrays' names, then the record."""
    total = sum(map(n_bytes, source.arrays.values()))
    head = f"{source.folder}: step {source.step}, {len(source.arrays)} arrays, {size(total)}"
    return "\n".join([head, *_tree(source, values), "", *_record(source)])


def size(count: int) -> str:
    """Bytes for people.

    >>> size(700), size(6 * 2**30)
    ('700 B', '6.0 GiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    power = min((max(count, 1).bit_length() - 1) // 10, len(units) - 1)
    return f"{count / 2 ** (10 * power):.{1 if power else 0}f} {units[power]}"


def _tree(source: Source, values: dict[str, Values]) -> Iterator[str]:
    """A line for each array, under a line for each group that it is the first of."""
    opened: list[str] = []
    for name, array in source.arrays.items():
        *groups, leaf = name.split(".")
        same = 0
        while same < min(len(groups), len(opened)) and groups[same] == opened[same]:
            same += 1
        for depth in range(same, len(groups)):
            group = ".".join(groups[: depth + 1])
            of_group = [a for n, a in source.arrays.items() if n.startswith(f"{group}.")]
            yield f"{'  ' * (depth + 1)}{groups[depth]}: {size(sum(map(n_bytes, of_group)))}"
        opened = groups
        yield f"{'  ' * (len(groups) + 1)}{leaf}  {_line(array, values.get(name))}"


def _line(array: BlockArray, values: Values | None) -> str:
    shape = " x ".join(map(str, array.shape)) or "scalar"
    line = f"{array.dtype.name} {shape}  {size(n_bytes(array))}"
    if values is None:
        return line
    line += f"  norm {values.norm:.6g}, zero {values.zeros:.1%}"
    return line + (f", NaN OR INFINITE {values.not_finite:.3%}" if values.not_finite else "")


def _record(source: Source) -> Iterator[str]:
    record = source.record
    vocabularies = record.get("vocabularies", [])
    keys = sum(count for _, count in vocabularies)
    yield f"vocabularies: {len(vocabularies)}, {keys:,} keys"
    for name, count in vocabularies:
        yield f"  {name}: {count:,}"
    for name in sorted(record.keys() - {*_SHOWN_APART}):
        yield f"{name}: {record[name]}"
    yield f"settings: {len(record.get('settings', {}))} (shown by --json)"
    for done in record.get("surgery", []):
        origin = ", ".join(each["folder"] for each in done.get("from", []))
        yield f"surgery: {done['command']} of {origin}"
