"""Small random log tables, written in any of the formats that a preparation reads.

Tables are lists of rows (dicts), so that the oracle can walk over them.
"""

import csv
import dataclasses
import datetime
import gzip
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dicm_jax.ams import feature_table
from dicm_jax.features.keyed_table import write_keyed_table
from dicm_jax.preparation.config import PrepareConfig

Row = dict[str, Any]
START = 1_577_836_800  # 2020-01-01
HOUR, DAY = 3_600, 86_400
NOW = START + 400 * DAY
WIDTH = 6
USERS = tuple(f"{name}{number}" for number in range(9) for name in ("u", "ü", "")[: 1 + number % 3])
ITEMS = 23


@dataclasses.dataclass
class Tables:
    """The rows of every table; None where a table is left out."""

    impressions: list[Row]
    behaviors: list[Row] | None
    catalogue: list[Row]
    users: list[Row] | None


def tables(
    seed: int = 0, impressions: int = 300, *, behaviors: int | None = 200, step: int = HOUR
) -> Tables:
    """A log of 40 days in which times are multiples of `step`, so that many are equal."""
    rng = np.random.default_rng(seed)
    pick = lambda values: values[int(rng.integers(len(values)))]  # noqa: E731
    time = lambda: START + int(rng.integers(40 * DAY // step)) * step  # noqa: E731
    item = lambda: item_id(int(ITEMS * rng.random() ** 2))  # noqa: E731
    shown = [
        {
            "user": pick(USERS),
            "item": item(),
            "time": time(),
            "click": int(rng.random() < 0.4),
            "page": pick(["home", "search", "", None, "é"]),
            "place": int(rng.integers(4)),
        }
        for _ in range(impressions)
    ]
    if behaviors is None:
        clicked = None
    else:
        clicked = [
            {"user": pick(USERS), "item": item(), "time": time(), "dwell": float(rng.integers(9))}
            for _ in range(behaviors)
        ]
        clicked += [dict(pick(clicked)) for _ in range(behaviors // 5)]  # some of them twice
        for row in clicked[::17]:
            row["dwell"] = None
    return Tables(shown, clicked, catalogue(rng), profiles(rng))


def item_id(item: int) -> str:
    """IDs that sort otherwise than their items."""
    return f"item-{(7 * item) % ITEMS}"


def catalogue(rng: np.random.Generator) -> list[Row]:
    """Items with an image of another name, some without one; some have no brand."""
    return [
        {
            "item": item_id(item),
            "picture": None if item % 5 == 4 else f"{item}.jpg",
            "category": int(rng.integers(5)),
            "brand": None if item % 6 == 1 else f"brand {rng.integers(9)}",
        }
        for item in rng.permutation(ITEMS).tolist()
    ]


def profiles(rng: np.random.Generator) -> list[Row]:
    """Profiles of most users and of a stranger."""
    known = [user for user in USERS if user != "u3"]
    return [
        {"user": user, "age": None if user == "u2" else int(rng.integers(6)), "city": f"c{user}"}
        for user in [*known, "stranger"]
    ]


def write_features(folder: Path, rows: int = ITEMS, seed: int = 0) -> Path:
    """The images of all items and of one that is no item, in another order."""
    rng = np.random.default_rng(seed)
    rows_ND = rng.gamma(0.5, 2.0, (rows, WIDTH)).astype(np.float32)
    ids = pa.array([f"{item}.jpg" for item in range(rows)][::-1])
    stats = feature_table.statistics(rows_ND, None)
    write_keyed_table(
        folder, "image", rows_ND, None, ids, stats=stats, storage="float32", encoder="x", about={}
    )
    return folder


Convert = Callable[[Any], Any]


def write(
    tables: Tables,
    folder: Path,
    *,
    kind: str = "parquet",
    files: int = 1,
    row_group: int = 10**6,
    time: Convert | None = None,
) -> Path:
    """Writes every table to ``folder/TABLE``.

    Args:
      tables: their rows.
      folder: is made.
      kind: ``parquet``, ``csv`` or ``csv.gz``.
      files: into which each table is cut.
      row_group: rows of a row group.
      time: what a time becomes.
    """
    for name, rows in dataclasses.asdict(tables).items():
        if rows is None:
            continue
        if time is not None:
            rows = [row | ({"time": time(row["time"])} if "time" in row else {}) for row in rows]
        place = folder / name
        place.mkdir(parents=True)
        each = max(1, -(-len(rows) // files))
        for number, first in enumerate(range(0, max(len(rows), 1), each)):
            part = rows[first : first + each]
            write_rows(place / f"part-{number:03d}.{kind}", part, rows, row_group)
    return folder


def write_rows(path: Path, rows: Sequence[Row], like: Sequence[Row], row_group: int) -> None:
    """Writes a file with the column types that all rows of the table have."""
    names = list(like[0]) if like else []
    if path.suffix == ".parquet":
        columns = {name: [row[name] for row in rows] for name in names}
        types = {name: pa.array([row[name] for row in like]).type for name in names}
        table = pa.table({name: pa.array(columns[name], types[name]) for name in names})
        pq.write_table(table, path, row_group_size=row_group)
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(
            [["" if row[name] is None else row[name] for name in names] for row in rows]
        )


def iso(second: int) -> str:
    """A moment as ISO text."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


DEFAULTS: Mapping[str, Any] = {
    "impressions.fields": ("page", "position=place"),
    "catalogue.image": "picture",
    "catalogue.fields": ("category", "brand"),
    "users.fields": ("age", "city"),
    "history.window_s": 0,
    "history.most": 6,
    "split.validation_from": iso(START + 25 * DAY),
    "split.test_from": iso(START + 32 * DAY),
    "policy.now": iso(NOW),
    "output.block_groups": 16,
    "output.shard_groups": 60,
    "runner.workers": 2,
}


def config(folder: Path, features: Path, **changes: Any) -> PrepareConfig:
    """Settings for the tables in `folder`; `changes` by dotted path, with ``__`` for a dot."""
    flat = dict(DEFAULTS) | {"features": str(features)}
    for table in ("impressions", "behaviors", "catalogue", "users"):
        if (folder / table).exists():
            flat[f"{table}.path"] = str(folder / table)
    if "users.path" not in flat:
        flat["users.fields"] = ()
    flat |= {name.replace("__", "."): value for name, value in changes.items()}
    return assembled(flat)


def assembled(flat: Mapping[str, Any]) -> PrepareConfig:
    """A config of settings by their dotted paths."""
    sections = typing.get_type_hints(PrepareConfig)
    nested: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {}
    for path, value in flat.items():
        section, dot, name = path.partition(".")
        if dot:
            nested.setdefault(section, {})[name] = value
        else:
            values[section] = value
    for section, inner in nested.items():
        values[section] = sections[section](**inner)
    return PrepareConfig(**values)


def contents(folder: Path, *, but: Sequence[str] = ()) -> dict[str, bytes]:
    """The bytes of every file of a set."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }
