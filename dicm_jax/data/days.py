"""Days since 1970-01-01 and the dates that they are, and which of them may stand in a log.

Shape legend
    E   rows of one table
"""

import datetime
from pathlib import Path

import numpy as np

from dicm_jax.errors import DataError

DAY_S = 86_400
"""Seconds of a day."""

_EPOCH = datetime.date(1970, 1, 1)


def day_of(source: str, cut: str) -> int:
    """Days from 1970-01-01 to an ISO date, the cut of a log.

    Raises:
      DataError: `cut` is not a date as YYYY-MM-DD; the message begins with `source`.
    """
    try:
        return (datetime.date.fromisoformat(cut) - _EPOCH).days
    except ValueError as error:
        raise DataError(f"{source}: cut={cut!r} is not a date; write it as YYYY-MM-DD") from error


def date_of(day: int) -> str:
    """The ISO date of a day."""
    return str(_EPOCH + datetime.timedelta(days=day))


def last_day() -> int:
    """The last day that a row may be dated: tomorrow in UTC, which is today somewhere."""
    return (datetime.datetime.now(datetime.UTC).date() - _EPOCH).days + 1


def last_second() -> int:
    """The last second of `last_day`, counted from 1970."""
    return (last_day() + 1) * DAY_S - 1


def check_days(path: Path, day_E: np.ndarray) -> None:
    """No row lies in the future: it cannot have happened, and would be taken for the test.

    Raises:
      DataError: rows after `last_day`; the first is named, counted from 0.
    """
    wrong_E = day_E > last_day()
    if wrong_E.any():
        row = int(np.argmax(wrong_E))
        raise DataError(
            f"{path}: {int(wrong_E.sum())} of {len(day_E)} rows are dated in the future, first "
            f"{np.datetime64(int(day_E[row]), 'D')} in row {row} (today is {date_of(last_day())}"
            " at most); repair the dates or leave the rows out"
        )
