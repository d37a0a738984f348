"""Arrays in other number formats."""

import dataclasses
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from dicm_jax.checkpoint.surgery.blocks import BlockArray, Region, Shape
from dicm_jax.checkpoint.surgery.output import Cut
from dicm_jax.checkpoint.surgery.patterns import matching, nearest, split_pair
from dicm_jax.checkpoint.surgery.source import Source
from dicm_jax.errors import CheckpointError

_FLOATS = {"float64", "float32", "float16", "bfloat16"}
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


@dataclasses.dataclass(frozen=True)
class Cast:
    """A `BlockArray` in another format.

    Attributes:
      name: of the array, for messages.
      array: that is cast.
      dtype: of the result.
      overflows: counts by name, to which values are added that became infinite.
    """

    name: str
    array: BlockArray
    dtype: np.dtype
    overflows: dict[str, int]

    @property
    def shape(self) -> Shape:
        """See `BlockArray`."""
        return self.array.shape

    @property
    def chunk(self) -> Shape:
        """See `BlockArray`."""
        return self.array.chunk

    def read(self, region: Region) -> np.ndarray:
        """See `BlockArray`.

        Raises:
          CheckpointError: an integer does not fit.
        """
        values = self.array.read(region)
        if self.dtype.name in _INTEGERS:
            self._check_fits(values)
            return values.astype(self.dtype)
        with np.errstate(over="ignore"):
            cast = values.astype(self.dtype)
        lost = np.count_nonzero(np.isfinite(values)) - np.count_nonzero(np.isfinite(cast))
        if lost:
            self.overflows[self.name] = self.overflows.get(self.name, 0) + int(lost)
        return cast

    def _check_fits(self, values: np.ndarray) -> None:
        room = np.iinfo(self.dtype)
        for value in (int(values.min()), int(values.max())):
            if not room.min <= value <= room.max:
                raise CheckpointError(
                    f"{self.name}: {value} of {values.dtype.name} does not fit"
                    f" {self.dtype.name}; cast to a wider format"
                )


def cast(source: Source, pairs: Sequence[str]) -> Cut:
    """The same arrays, some of them in other formats: floats to floats, integers to integers.

    Args:
      source: a checkpoint.
      pairs: each ``PATTERN=DTYPE``; of several that mean an array, the last holds.

    Raises:
      CheckpointError: a pair is malformed or means no array, or a format is unknown or of another
        kind.
    """
    formats: dict[str, str] = {}
    for pair in pairs:
        pattern, wanted = split_pair(pair, "PATTERN=DTYPE")
        _check_known(wanted)
        formats |= dict.fromkeys(matching(pattern, source.arrays), wanted)
    overflows: dict[str, int] = {}
    arrays: dict[str, BlockArray] = dict(source.arrays)
    changed = {}
    for name, wanted in formats.items():
        found = arrays[name].dtype.name
        _check_kind(name, found, wanted)
        if found != wanted:
            dtype = np.dtype(getattr(ml_dtypes, wanted, wanted))
            arrays[name] = Cast(name, arrays[name], dtype, overflows)
            changed[name] = [found, wanted]
    done = {
        "command": "cast",
        "from": [source.as_json()],
        "cast": changed,
        "became_infinite": overflows,
    }
    return Cut(source.step, source.record, arrays, done, source.files)


def _check_known(wanted: str) -> None:
    known = sorted(_FLOATS | _INTEGERS)
    if wanted not in known:
        raise CheckpointError(
            f"{wanted!r} is no number format here: {nearest(wanted, known)}; known are"
            f" {', '.join(known)}"
        )


def _check_kind(name: str, found: str, wanted: str) -> None:
    if not any({found, wanted} <= kind for kind in (_FLOATS, _INTEGERS)):
        raise CheckpointError(
            f"{name} is {found} and cannot be cast to {wanted}: floats are cast to floats and"
            " integers to integers; choose a format of the same kind, or a narrower pattern"
        )
