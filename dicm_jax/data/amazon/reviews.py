"""Reviews of an Amazon set, from JSON lines or from a table of ratings, as integers.

A line of ``reviews_*.json`` has at least reviewerID, asin, overall (1 to 5) and unixReviewTime
(seconds). A line of ``ratings_*.csv`` is user,item,rating,timestamp, without a header.

Shape legend
    E   reviews, in the order of the file
"""

import array
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from dicm_jax.data.amazon.files import objects
from dicm_jax.data.days import DAY_S, last_second
from dicm_jax.data.purchases.events import encode
from dicm_jax.errors import DataError

_COLUMNS = ("user", "item", "rating", "timestamp")
_REPAIR = "repair that line or download the file again"


@dataclasses.dataclass(frozen=True)
class Reviews:
    """One review each: indices into `users` and `asins`, stars, days since 1970-01-01."""

    users: pa.Array
    asins: pa.Array
    user_E: np.ndarray
    product_E: np.ndarray
    rating_E: np.ndarray
    day_E: np.ndarray


def read_reviews(path: Path) -> Reviews:
    """Reads a ``.csv`` of ratings, or the JSON lines of any other name.

    Raises:
      DataError: an unreadable file or line, a missing field, a user or product without a name, a
        rating outside 1 to 5, a time that is no number, negative or in the future, no review; with
        the number of the line.
    """
    reviews = _read_csv(path) if path.suffix == ".csv" else _read_json(path)
    if not len(reviews.user_E):
        raise DataError(f"{path}: no review in it; give the full file")
    return reviews


def _read_json(path: Path) -> Reviews:
    users: dict[str, int] = {}
    asins: dict[str, int] = {}
    user_E, product_E = array.array("i"), array.array("i")
    rating_E, day_E = array.array("f"), array.array("i")
    latest = last_second()
    for number, fields in objects(path):
        try:
            user, asin = fields["reviewerID"], fields["asin"]
            rating, second = fields["overall"], fields["unixReviewTime"]
        except KeyError as error:
            raise DataError(
                f"{path}, line {number}: no field {error}; fields found: {sorted(fields)}; "
                f"{_REPAIR}"
            ) from None
        for name, text in (("reviewerID", user), ("asin", asin)):
            if type(text) is not str or not text:
                raise DataError(f"{path}, line {number}: {name} is {text!r}; it must be a name")
        _check(path, number, _rating_fault(rating))
        _check(path, number, _second_fault(second, latest))
        user_E.append(users.setdefault(user, len(users)))
        product_E.append(asins.setdefault(asin, len(asins)))
        rating_E.append(rating)
        day_E.append(second // DAY_S)
    return Reviews(
        pa.array(list(users), pa.string()),
        pa.array(list(asins), pa.string()),
        np.array(user_E, np.int32),
        np.array(product_E, np.int32),
        np.array(rating_E, np.float32),
        np.array(day_E, np.int32),
    )


def _read_csv(path: Path) -> Reviews:
    text = pa.dictionary(pa.int32(), pa.string())
    try:
        table = pyarrow.csv.read_csv(
            path,
            # One thread: only then does Arrow say in which row the parts are too few.
            read_options=pyarrow.csv.ReadOptions(column_names=list(_COLUMNS), use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, text)),
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as CSV ({error}); every line is {','.join(_COLUMNS)}: "
            f"{_REPAIR}"
        ) from error
    if not len(table):
        raise DataError(f"{path}: no review in it; give the full file")
    latest = last_second()
    users, user_E = _names(path, table, "user")
    asins, product_E = _names(path, table, "item")
    rating_E = _numbers(path, table, "rating", float, _rating_fault)
    second_E = _numbers(path, table, "timestamp", int, lambda value: _second_fault(value, latest))
    return Reviews(
        users,
        asins,
        user_E,
        product_E,
        rating_E.astype(np.float32),
        (second_E // DAY_S).astype(np.int32),
    )


def _names(path: Path, table: pa.Table, column: str) -> tuple[pa.Array, np.ndarray]:
    texts, index_E = encode(table[column])
    empty = texts.index("").as_py()
    if empty >= 0:
        line = int(np.argmax(index_E == empty)) + 1
        raise DataError(f"{path}, line {line}: {column} is ''; it must be a name")
    return texts, index_E


def _numbers(
    path: Path,
    table: pa.Table,
    column: str,
    parse: Callable[[str], Any],
    fault: Callable[[Any], str | None],
) -> np.ndarray:
    """A column of texts as numbers, each distinct text looked at once."""
    texts, index_E = encode(table[column])
    values = []
    for at, text in enumerate(texts.to_pylist()):
        try:
            value = parse(text)
        except ValueError:
            value = text
        found = fault(value)
        if found:
            _check(path, int(np.argmax(index_E == at)) + 1, found)
        values.append(value)
    return np.array(values)[index_E]


def _check(path: Path, number: int, fault: str | None) -> None:
    if fault:
        raise DataError(f"{path}, line {number}: {fault}; {_REPAIR}")


def _rating_fault(value: Any) -> str | None:
    """What is wrong with a rating."""
    if type(value) not in (int, float) or not 1 <= value <= 5:
        return f"rating {value!r}; a rating is 1 to 5 stars"
    return None


def _second_fault(value: Any, latest: int) -> str | None:
    """What is wrong with a time; `latest` is the last second that may be."""
    if type(value) is not int:
        return f"time {value!r}; a time is a whole number of seconds since 1970"
    if value < 0:
        return f"time {value} is before 1970; a time is seconds since then"
    if value > latest:
        return f"time {value} lies in the future; a time is seconds since 1970, no smaller unit"
    return None
