"""Vocabularies and tables, grown or shrunk.

All vocabularies are stacked in one ID table: key ``start + id``, with ``start`` the sizes of those
before. Another size of one therefore moves the keys of all after it, and another number of keys the
row of every key (`dicm_jax.ams.layout.RowLayout`). Rows that lay together mostly do so afterwards,
and an array is moved in long runs.

Shape legend
    N   rows of a part of the new table     F   vocabularies
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dicm_jax.ams.layout import RowLayout
from dicm_jax.checkpoint.surgery.blocks import BlockArray, Region, Shape
from dicm_jax.checkpoint.surgery.output import Cut
from dicm_jax.checkpoint.surgery.patterns import matching, nearest, split_pair
from dicm_jax.checkpoint.surgery.source import ERRORS, STATE, Source, part_of
from dicm_jax.errors import CheckpointError

NEW, PADDING = -1, -2
"""In the place of a row's number: the row is of a new key, or of none."""
_ROWS_AT_ONCE = 2**20
_TILE = 512
"""Rows that are drawn together: what a new row holds depends on its number, not on blocks."""
_TABLE, _TABLE_ROWS = "ids.", "ids.row"
_PARAMETERS = "params."
_SCALE_SETTING = "model.id_init_scale"


@dataclasses.dataclass(frozen=True)
class Resized:
    """A `BlockArray` with other rows.

    Attributes:
      array: whose rows are taken.
      n_rows: of the result.
      old_row: for numbers of new rows, int64, those of the old ones, `NEW` or `PADDING`.
      scale: standard deviation of new rows; 0 for zeros.
      seed: of their draw.
    """

    array: BlockArray
    n_rows: int
    old_row: Callable[[np.ndarray], np.ndarray]
    scale: float
    seed: int

    @property
    def shape(self) -> Shape:
        """See `BlockArray`."""
        return (self.n_rows, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """See `BlockArray`."""
        return self.array.dtype

    @property
    def chunk(self) -> Shape:
        """See `BlockArray`."""
        return self.array.chunk

    def read(self, region: Region) -> np.ndarray:
        """See `BlockArray`."""
        rows, rest = region[0], region[1:]
        values = np.zeros([part.stop - part.start for part in region], self.dtype)
        for start in range(rows.start, rows.stop, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, rows.stop)
            old_N = self.old_row(np.arange(start, stop, dtype=np.int64))
            # In the order in which they lay: what is packed together is unpacked once.
            for first, last in sorted(_runs(old_N), key=lambda run: old_N[run[0]]):
                old, place = int(old_N[first]), slice(start - rows.start + first, None)
                into = values[place][: last - first]
                if old >= 0:
                    into[...] = self.array.read((slice(old, old + last - first), *rest))
                elif old == NEW and self.scale:
                    into[...] = self._drawn(start + first, start + last)[(slice(None), *rest)]
        return values

    def _drawn(self, start: int, stop: int) -> np.ndarray:
        """New rows `start` to `stop`, from N(0, scale^2)."""
        inner = self.array.shape[1:]
        drawn = np.empty((stop - start, *inner), np.float32)
        for tile in range(start // _TILE, -(-stop // _TILE)):
            rng = np.random.default_rng([self.seed, tile])
            rows = rng.standard_normal((_TILE, *inner), np.float32)
            first, last = max(start, tile * _TILE), min(stop, (tile + 1) * _TILE)
            drawn[first - start : last - start] = rows[first - tile * _TILE : last - tile * _TILE]
        return (drawn * np.float32(self.scale)).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class Restacked:
    """Where the rows of one stack of vocabularies are found in another.

    Attributes:
      before, after: sizes of the vocabularies, in the same order.
    """

    before: Sequence[int]
    after: Sequence[int]

    @property
    def n_rows(self) -> int:
        """Of the table after."""
        return RowLayout(sum(self.after)).n_rows

    def old_row(self, row_N: np.ndarray) -> np.ndarray:
        """The row in the table before of each row after; `NEW` or `PADDING` where there is none."""
        key_N = RowLayout(sum(self.after)).key(row_N)
        end_F = np.cumsum(self.after)
        field_N = np.searchsorted(end_F, key_N, side="right")
        is_key_N = field_N < len(self.after)
        field_N[~is_key_N] = 0
        id_N = key_N - (end_F - self.after)[field_N]
        known_N = is_key_N & (id_N < np.asarray(self.before)[field_N])
        start_F = np.cumsum(self.before) - self.before
        old_N = np.where(is_key_N, NEW, PADDING)
        old_key_N = (start_F[field_N] + id_N)[known_N]
        old_N[known_N] = RowLayout(sum(self.before)).row(old_key_N)
        return old_N


def resize(
    source: Source,
    *,
    vocabularies: Sequence[str] = (),
    rows: Sequence[str] = (),
    scale: float | None = None,
    seed: int = 0,
) -> Cut:
    """The same arrays, some of them longer or shorter. What is kept is kept bit for bit.

    Args:
      source: a checkpoint.
      vocabularies: each ``NAME=SIZE``. New keys come at the end, and the last ones go.
      rows: each ``PATTERN=ROWS``, of arrays outside of the ID table. New rows come at the end.
      scale: standard deviation of new rows of parameters; None for what the record says of ID rows
        (``model.id_init_scale``), and zeros in other arrays. What an optimiser keeps is zero.
      seed: of their draw.

    Raises:
      CheckpointError: nothing to do, a vocabulary or array that there is not, a size that is none,
        or the table does not have the vocabularies' size.
    """
    if not vocabularies and not rows:
        raise CheckpointError(
            "resize: nothing to do; say which with --vocabulary=NAME=SIZE or --rows=PATTERN=ROWS"
        )
    arrays: dict[str, BlockArray] = dict(source.arrays)
    record, files = dict(source.record), dict(source.files)
    done: dict[str, Any] = {"command": "resize", "from": [source.as_json()], "seed": seed}
    if vocabularies:
        before = _vocabularies(source)
        after = before | _sizes(vocabularies, before)
        record["vocabularies"] = [list(pair) for pair in after.items()]
        done["vocabularies"] = {
            name: [size, after[name]] for name, size in before.items() if size != after[name]
        }
        # Which ID a new key stands for is nobody's knowledge here.
        crcs = dict(record.get("vocabulary_crcs", {}))
        done["ids_no_longer_known"] = [name for name in done["vocabularies"] if name in crcs]
        for name in done["ids_no_longer_known"]:
            del crcs[name]
            files.pop(f"vocabularies/{name}.parquet", None)
        record["vocabulary_crcs"] = crcs
        done["scale"] = _id_scale(source) if scale is None else scale
        stack = Restacked(list(before.values()), list(after.values()))
        arrays |= _tables(source, stack, done["scale"], seed)
        # They belong to rows by number.
        done["dropped"] = [name for name in arrays if part_of(name)[0] == ERRORS]
        arrays = {name: array for name, array in arrays.items() if part_of(name)[0] == STATE}
    if rows:
        longer = _longer(arrays, rows, scale or 0.0, seed)
        done["rows"] = {name: [arrays[name].shape[0], a.n_rows] for name, a in longer.items()}
        arrays |= longer
    return Cut(source.step, record, arrays, done, files)


def _vocabularies(source: Source) -> dict[str, int]:
    if _TABLE_ROWS not in source.arrays or not source.record.get("vocabularies"):
        raise CheckpointError(
            f"{source.folder} has no {_TABLE_ROWS}, or does not say of which vocabularies it is:"
            " none can be resized; name a checkpoint that has both"
        )
    return dict(source.record["vocabularies"])


def _sizes(pairs: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    sizes = {}
    for pair in pairs:
        name, size = split_pair(pair, "NAME=SIZE")
        if name not in known:
            raise CheckpointError(
                f"{name!r} is none of the {len(known)} vocabularies: {nearest(name, known)}; give"
                " one of them (python -m dicm_jax.surgery inspect lists them)"
            )
        sizes[name] = _length(pair, size)
    return sizes


def _length(pair: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise CheckpointError(f"{pair!r}: {text!r} is no size; give a whole number of at least 1")
    return int(text)


def _id_scale(source: Source) -> float:
    found = source.record.get("settings", {}).get(_SCALE_SETTING)
    if found is None:
        raise CheckpointError(
            f"{source.folder} does not say how new ID rows are drawn ({_SCALE_SETTING}); give"
            " --scale, the standard deviation, or --scale=0 for zeros"
        )
    return float(found)


def _tables(source: Source, stack: Restacked, scale: float, seed: int) -> dict[str, Resized]:
    """All arrays of the ID table: the rows, and what the optimiser keeps for each."""
    n_rows = RowLayout(sum(stack.before)).n_rows
    tables = {}
    for name, array in source.arrays.items():
        if not name.startswith(_TABLE):
            continue
        if array.shape[:1] != (n_rows,):
            raise CheckpointError(
                f"{name} has shape {array.shape}, but the table of the record's vocabularies, of"
                f" {sum(stack.before)} keys in all, has {n_rows} rows: it is not theirs; take a"
                " checkpoint in which they fit"
            )
        drawn = scale if name == _TABLE_ROWS else 0.0
        tables[name] = Resized(array, stack.n_rows, stack.old_row, drawn, seed)
    return tables


def _longer(
    arrays: Mapping[str, BlockArray], pairs: Sequence[str], scale: float, seed: int
) -> dict[str, Resized]:
    longer = {}
    for pair in pairs:
        pattern, length = split_pair(pair, "PATTERN=ROWS")
        for name in matching(pattern, arrays):
            array = arrays[name]
            if name.startswith(_TABLE) or not array.shape:
                what = "of the ID table" if array.shape else "a single number"
                raise CheckpointError(
                    f"{pair!r}: {name} is {what} and has no rows to add; ID rows are resized with"
                    " --vocabulary=NAME=SIZE"
                )
            drawn = scale if name.startswith(_PARAMETERS) else 0.0
            n_rows = _length(pair, length)
            longer[name] = Resized(array, n_rows, _as_before(array.shape[0]), drawn, seed)
    return longer


def _as_before(n_rows: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda row_N: np.where(row_N < n_rows, row_N, NEW)


def _runs(old_N: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last of the runs in which rows follow each other, or are all of one kind."""
    step_N = np.diff(old_N)
    joined_N = np.where(old_N[1:] < 0, step_N == 0, (step_N == 1) & (old_N[:-1] >= 0))
    starts = [0, *(np.flatnonzero(~joined_N) + 1).tolist(), len(old_N)]
    return itertools.pairwise(starts)
