"""Columns of a log table as integers, after a look at every value.

Shape legend
    E   rows of a chunk
"""

import datetime
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicm_jax.errors import DataError
from dicm_jax.preparation.config import PolicyConfig
from dicm_jax.preparation.tables import Fragment

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
DAY_S = 86_400


class Kept:
    """Which rows of a chunk go on, and how many were left out for what.

    Args:
      fragment: that the chunk is of.
      first_row: of the chunk, in the fragment.
      rows: of the chunk.
      policy: what happens to rows that cannot be used.
    """

    def __init__(self, fragment: Fragment, first_row: int, rows: int, policy: PolicyConfig):
        self._where, self._first_row, self._policy = fragment, first_row, policy
        self.row_E = np.arange(rows)
        self.counts: dict[str, int] = {}

    def only(self, reason: str, bad_E: np.ndarray, says: Callable[[int], str]) -> None:
        """Leaves out the rows that are `bad_E`, or ends with what `says` says of the first.

        Args:
          reason: name of the policy.
          bad_E: of all rows of the chunk.
          says: what is wrong with a row, and what to do.

        Raises:
          DataError: there is a bad row, and the policy is ``error``.
        """
        bad_here_E = bad_E[self.row_E]
        count = int(bad_here_E.sum())
        if not count:
            return
        if getattr(self._policy, reason) == "error":
            row = int(self.row_E[np.argmax(bad_here_E)])
            raise DataError(
                f"{self._where.path}, row {self._where.first_row + self._first_row + row}:"
                f" {says(row)} ({count} such rows in this chunk of {len(bad_E)}); mend the rows, or"
                f" set policy.{reason}='drop' to count them and go on"
            )
        name = f"{self._where.table}_dropped_{reason}"
        self.counts[name] = self.counts.get(name, 0) + count
        self.row_E = self.row_E[~bad_here_E]


def as_text(path: str, name: str, column: pa.ChunkedArray) -> pa.Array:
    """An ID column as text; integers as they are printed.

    Raises:
      DataError: numbers with a fraction, or something else that is no ID.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of more than one chunk's worth of text
        array = pa.concat_arrays([part.cast(pa.large_string()) for part in array.chunks])
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string()).cast(pa.large_string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    raise DataError(
        f"{path}: column {name!r} has type {kind}; an ID column holds text or integers: convert it"
    )


def missing(column: pa.Array) -> np.ndarray:
    """Where a text is null or empty, bool ``[E]``."""
    empty = pc.call_function("equal", [column, pa.scalar("", column.type)])
    return pc.fill_null(empty, True).to_numpy(zero_copy_only=False)


def seconds(path: str, name: str, column: pa.ChunkedArray, unit: str) -> np.ndarray:
    """A time column as seconds since 1970, int64 ``[E]``; `NO_TIME` where it is null.

    Raises:
      DataError: a type or a text that is no time.
    """
    array = pa.concat_arrays(column.chunks)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        array = _from_text(path, name, array, unit)
        kind = array.type
    if pa.types.is_date(kind):
        array = array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return _scaled(array, DAY_S, 1)
    if pa.types.is_timestamp(kind):
        return _scaled(array.cast(pa.int64()), 1, _PER_SECOND[kind.unit])
    if pa.types.is_integer(kind):
        if pa.types.is_uint64(kind):  # of which the upper half is no int64
            array = pc.call_function("min_element_wise", [array, pa.scalar(_INT64.max, kind)])
        times = DAY_S if unit == "day" else 1
        return _scaled(array.cast(pa.int64()), times, _PER_SECOND.get(unit, 1))
    raise DataError(
        f"{path}: column {name!r} has type {kind}; a time is a timestamp, a date, an integer in"
        f" time_unit={unit!r} or ISO text: convert it"
    )


_TIMES = [pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", None)]
_INT64 = np.iinfo(np.int64)
NO_TIME = _INT64.min
_MOST_S = 1 << 38
"""Seconds, some 8,700 years: times further from 1970 are taken to be this far."""


def iso_seconds(setting: str, text: str) -> int:
    """Seconds since 1970 of an ISO date or time; without a zone it is UTC.

    Raises:
      DataError: it is neither.
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(
            f"{setting}={text!r} is no date or time; write it as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())


def iso_text(second: int) -> str:
    """A moment as people write it, UTC; one beyond the calendar as a number."""
    try:
        moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{second} s since 1970"
    return moment.strftime("%Y-%m-%d" if second % DAY_S == 0 else "%Y-%m-%dT%H:%M:%S")


def labels(path: str, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """A click column as int8 ``[E]``: 0, 1; 2 for anything else; -1 where it is null.

    Raises:
      DataError: a type that cannot hold clicks.
    """
    array = pa.concat_arrays(column.chunks)
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = ["0", "1", "0.0", "1.0", "false", "true", "False", "True"]
        options = pc.SetLookupOptions(value_set=pa.array(texts, kind))
        place = pc.call_function("index_in", [array], options)
        label = pc.fill_null(place, -2).to_numpy(zero_copy_only=False)
        label_E = np.where(label < 0, 2, label % 2).astype(np.int8)
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = array.cast(pa.float64(), safe=False)  # whatever is too large for it is no click
        value_E = pc.fill_null(values, 2.0).to_numpy(zero_copy_only=False)
        label_E = np.where(np.isin(value_E, (0.0, 1.0)), value_E, 2).astype(np.int8)
    else:
        raise DataError(
            f"{path}: column {name!r} has type {kind}; a click is 0 or 1: convert it, or name the"
            " right column"
        )
    label_E[array.is_null().to_numpy(zero_copy_only=False)] = -1
    return label_E


def floats(path: str, name: str, column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64 ``[E]``, NaN where it is null.

    Raises:
      DataError: something that is no number.
    """
    try:
        array = pa.concat_arrays(column.chunks).cast(pa.float64())
    except pa.ArrowException as error:
        raise DataError(f"{path}: column {name!r} holds no numbers ({error}); mend it") from error
    return pc.fill_null(array, float("nan")).to_numpy(zero_copy_only=False)


def _from_text(path: str, name: str, array: pa.Array, unit: str) -> pa.Array:
    """Text as integers, dates or times, whichever all of it is."""
    for kind in (pa.int64(), pa.date32(), *_TIMES):
        try:
            return array.cast(kind)
        except pa.ArrowException:
            continue
    wrong = next((row for row, value in enumerate(array) if not _is_time(value.as_py())), 0)
    raise DataError(
        f"{path}: column {name!r}: {array[wrong].as_py()!r} is no time; a time is ISO text, or an"
        f" integer in time_unit={unit!r}, the same way in all rows"
    )


def _is_time(text: str | None) -> bool:
    if text is None or text.lstrip("-").isdigit():
        return True
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _scaled(array: pa.Array, times: int, over: int) -> np.ndarray:
    null_E = array.is_null().to_numpy(zero_copy_only=False)
    value_E = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    most = min(_MOST_S * over // times, _INT64.max)  # larger products may have no room
    second_E = np.clip(value_E, -most, most) * times // over
    second_E[null_E] = NO_TIME
    return second_E
