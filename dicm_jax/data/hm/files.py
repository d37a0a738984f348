"""The H&M set in Kaggle's layout: its tables read, checked, and turned into integers.

Kaggle's files, https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations:
``transactions_train.csv`` and ``articles.csv``; and, where a fixed set of impressions goes with
them, ``impressions.parquet``. Strings are encoded while they are read, so that 31 million
transactions cost integers, not text.

Shape legend
    N   articles        F   ID fields of an article        E   rows of one table of events
"""

import csv
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from dicm_jax.data.days import check_days
from dicm_jax.data.purchases.events import Events, encode, texts_in
from dicm_jax.errors import DataError

ARTICLES = "articles.csv"
TRANSACTIONS = "transactions_train.csv"
IMPRESSIONS = "impressions.parquet"

ARTICLE_COLUMNS = {
    "product_type": "product_type_no",
    "product_group": "product_group_name",
    "graphical_appearance": "graphical_appearance_no",
    "colour_group": "colour_group_code",
    "perceived_colour_value": "perceived_colour_value_id",
    "perceived_colour_master": "perceived_colour_master_id",
    "department": "department_no",
    "index": "index_code",
    "index_group": "index_group_no",
    "section": "section_no",
    "garment_group": "garment_group_no",
}
"""ID field -> the column of ``articles.csv`` whose values are its vocabulary, sorted as text."""

_BLOCK_BYTES = 1 << 25
"""Larger blocks than pyarrow's default: each block carries a dictionary of its customers."""


@dataclasses.dataclass(frozen=True)
class Articles:
    """``articles.csv``: IDs in the order of the file, and the keys of `ARTICLE_COLUMNS`."""

    ids: pa.Array
    keys_NF: np.ndarray
    sizes: dict[str, int]


def find(root: Path, name: str) -> Path:
    """The file `name` in `root`.

    Raises:
      DataError: it is not there; the message lists what is.
    """
    if not root.is_dir():
        raise DataError(
            f"H&M data at {root}: no such folder; give the folder that holds {ARTICLES} and "
            f"{TRANSACTIONS} of the Kaggle competition"
        )
    if not (root / name).is_file():
        found = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        raise DataError(f"{root / name}: no such file; found {found}; put {name} beside them")
    return root / name


def read_articles(root: Path) -> Articles:
    """Reads ``articles.csv``; only ``article_id`` and the columns of the ID fields are needed.

    Raises:
      DataError: missing or unreadable file, missing column, an article listed twice, no article.
    """
    path = find(root, ARTICLES)
    columns = ["article_id", *ARTICLE_COLUMNS.values()]
    table = _read_csv(path, dict.fromkeys(columns, pa.string()), multiline=True)
    ids = table["article_id"].combine_chunks()
    if not len(ids):
        raise DataError(f"{path}: no article in it; give the full file")
    counts = ids.value_counts()
    repeated = np.flatnonzero(counts.field("counts").to_numpy() > 1)
    if len(repeated):
        first = counts.field("values")[int(repeated[0])].as_py()
        raise DataError(
            f"{path}: {len(repeated)} article_ids are listed twice, first {first!r}; "
            "keep one row for each article"
        )
    keys, sizes = [], {}
    for field, column in ARTICLE_COLUMNS.items():
        values, keys_N = np.unique(_texts(table[column]), return_inverse=True)
        keys.append(keys_N.astype(np.int32))
        sizes[field] = len(values)
    return Articles(ids=ids, keys_NF=np.stack(keys, axis=1), sizes=sizes)


def read_transactions(root: Path, article_ids: pa.Array) -> Events:
    """Reads ``transactions_train.csv``, rows in the order of the file.

    Raises:
      DataError: missing or unreadable file, missing column, a date that is none or lies in
        the future, an empty value, an article that ``articles.csv`` lacks, no row.
    """
    path = find(root, TRANSACTIONS)
    text = pa.dictionary(pa.int32(), pa.string())
    table = _read_csv(path, {"t_dat": pa.date32(), "customer_id": text, "article_id": text})
    return _events(path, table, article_ids)


def read_impressions(root: Path, article_ids: pa.Array) -> Events | None:
    """Reads ``impressions.parquet``, rows in the order of the file; None where there is none.

    Raises:
      DataError: as `read_transactions`, or a click other than 0 and 1.
    """
    path = root / IMPRESSIONS
    if not path.is_file():
        return None
    columns = ["customer_id", "t_dat", "article_id", "click"]
    try:
        found = pyarrow.parquet.read_schema(path).names
        _check_columns(path, columns, found)
        table = pyarrow.parquet.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_unreadable(path, "Parquet", error)) from error
    try:
        days = table["t_dat"].cast(pa.date32())
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column 't_dat' holds something that is not a date ({error}); write dates as "
            "YYYY-MM-DD"
        ) from error
    table = table.set_column(table.column_names.index("t_dat"), "t_dat", days)
    events = _events(path, table, article_ids)
    return dataclasses.replace(events, click_E=_labels(path, table["click"]))


def _read_csv(path: Path, types: dict[str, pa.DataType], *, multiline: bool = False) -> pa.Table:
    """The columns named in `types`; an empty value of another type than text is null."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = next(csv.reader(file), [])
        _check_columns(path, list(types), found)
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=multiline),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(types)
            ),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(_unreadable(path, "CSV", error)) from error


def _unreadable(path: Path, kind: str, error: Exception) -> str:
    return (
        f"{path}: cannot be read as {kind} ({error}); it may be cut short or hold a value of the "
        "wrong type (dates are YYYY-MM-DD): repair it or download it again"
    )


def _check_columns(path: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    missing = [column for column in wanted if column not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], found, n=3)
        hint = f"near it: {near}; " if near else ""
        raise DataError(
            f"{path}: no column {missing[0]!r}; {hint}columns found: {list(found)}; rename "
            "or add it (the file must have Kaggle's header)"
        )


def _events(path: Path, table: pa.Table, article_ids: pa.Array) -> Events:
    """Customer and article as integers, after checking that every value is there and known."""
    if not len(table):
        raise DataError(f"{path}: no row in it; give the full file")
    customers, customer_E = encode(table["customer_id"])
    articles, article_E = encode(table["article_id"])
    _check_present(path, "customer_id", customer_E, customers)
    _check_present(path, "article_id", article_E, articles)
    empty = table["t_dat"].null_count
    if empty:
        first = pc.index(table["t_dat"].is_null(), True).as_py()
        raise DataError(f"{path}: {empty} rows without a t_dat, first row {first}; fill them in")
    item_E = texts_in(article_ids, articles)[article_E]
    unknown_E = item_E < 0
    if unknown_E.any():
        row = int(np.argmax(unknown_E))
        article = articles[int(article_E[row])].as_py()
        raise DataError(
            f"{path}: {int(unknown_E.sum())} of {len(item_E)} rows name an article that "
            f"{ARTICLES} lacks, first {article!r} in row {row}; the files must belong together, "
            "and an article_id is text with its leading zero"
        )
    day_E = table["t_dat"].cast(pa.int32()).to_numpy()
    check_days(path, day_E)
    return Events(customers, customer_E, day_E, item_E, click_E=np.ones(len(item_E), np.uint8))


def _check_present(path: Path, name: str, index_E: np.ndarray, texts: pa.Array) -> None:
    """No null, and no empty text."""
    empty = pc.index(texts.cast(pa.string()), "").as_py()
    missing_E = index_E < 0
    if empty >= 0:
        missing_E |= index_E == empty
    if missing_E.any():
        raise DataError(
            f"{path}: {int(missing_E.sum())} rows without a {name}, first row "
            f"{int(np.argmax(missing_E))}; fill them in or leave the rows out"
        )


def _labels(path: Path, column: pa.ChunkedArray) -> np.ndarray:
    values_E = column.to_numpy()
    valid_E = np.isin(values_E, (0, 1))
    if not valid_E.all():
        first = int(np.argmin(valid_E))
        raise DataError(
            f"{path}: {int((~valid_E).sum())} rows have a click other than 0 and 1, first "
            f"{column[first].as_py()!r} in row {first}; a click is 0 or 1"
        )
    return values_E.astype(np.uint8)


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.str_)
