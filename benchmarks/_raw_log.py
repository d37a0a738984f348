"""A raw log of any size, as tables in files: what a preparation is timed on.

Shape legend
    B   impressions     R   requests, of ten impressions each     N   items
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from dicm_jax.ams import feature_table
from dicm_jax.features.keyed_table import write_keyed_table

FIRST_SECOND, DAYS, BEHAVIOR_DAYS = 1_500_000_000, 30, 14
ITEMS, PAGES, SHOWN = 200_000, 50, 10
_FILE_ROWS = 2_000_000
_FIRST_ITEM = 10**9

CONFIG = """
def get_config():
    return {
        "name": "benchmark",
        "impressions": {"path": "FOLDER/impressions", "fields": ("page",)},
        "behaviors": {"path": "FOLDER/behaviors", "dwell": "dwell"},
        "catalogue": {"path": "FOLDER/items.parquet", "fields": ("category", "brand")},
        "history": {"min_dwell_s": 5.0},
        "features": "FOLDER/features",
        "split": {"validation_from": "2017-08-09", "test_from": "2017-08-10"},
    }
"""


def write_raw_log(folder: Path, impressions: int, seed: int = 0) -> Path:
    """Writes impressions, half as many behaviors, a catalogue and features; returns a config file.

    Users have 40 impressions on average, items are drawn by a power of their rank, rows come in no
    order. Text IDs of users and integer IDs of items, as logs have them.

    Args:
      folder: is made.
      impressions: how many.
      seed: of everything.
    """
    rng = np.random.default_rng(seed)
    users = max(1000, impressions // 40)
    for table in ("impressions", "behaviors"):
        (folder / table).mkdir(parents=True)
    for number, first in enumerate(range(0, impressions, _FILE_ROWS)):
        rows = min(_FILE_ROWS, impressions - first)
        for table, made in (
            ("impressions", _impressions(rng, rows, users)),
            ("behaviors", _behaviors(rng, rows // 2, users)),
        ):
            path = folder / table / f"{number:04d}.parquet"
            pyarrow.parquet.write_table(made, path, row_group_size=500_000)
    ids = np.arange(ITEMS) + _FIRST_ITEM
    columns = {"category": rng.integers(0, 300, ITEMS), "brand": rng.integers(0, 5_000, ITEMS)}
    pyarrow.parquet.write_table(pa.table({"item": ids} | columns), folder / "items.parquet")
    rows_ND = rng.normal(size=(ITEMS, 8)).astype(np.float32)
    write_keyed_table(
        folder / "features",
        "image",
        rows_ND,
        None,
        pa.array(ids.astype(np.str_)),
        stats=feature_table.statistics(rows_ND, None),
        storage="float32",
        encoder="random",
        about={},
    )
    config = folder / "prepare.py"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    return config


def _impressions(rng: np.random.Generator, rows: int, users: int) -> pa.Table:
    requests = -(-rows // SHOWN)
    user_B = np.repeat(rng.integers(0, users, requests), SHOWN)[:rows]
    second_R = FIRST_SECOND + rng.integers(0, DAYS * 86_400, requests)
    return pa.table(
        {
            "user": _user_ids(user_B),
            "item": _items(rng, rows),
            "time": np.repeat(second_R, SHOWN)[:rows],
            "click": (rng.random(rows) < 0.1).astype(np.int8),
            "page": rng.integers(0, PAGES, rows).astype(np.int32),
        }
    )


def _behaviors(rng: np.random.Generator, rows: int, users: int) -> pa.Table:
    first = FIRST_SECOND - BEHAVIOR_DAYS * 86_400
    return pa.table(
        {
            "user": _user_ids(rng.integers(0, users, rows)),
            "item": _items(rng, rows),
            "time": first + rng.integers(0, (DAYS + BEHAVIOR_DAYS) * 86_400, rows),
            "dwell": rng.exponential(20, rows).astype(np.float32),
        }
    )


def _user_ids(user_B: np.ndarray) -> pa.Array:
    return pa.array(np.char.add("u", user_B.astype(np.str_)))


def _items(rng: np.random.Generator, rows: int) -> np.ndarray:
    share_N = np.cumsum(np.arange(1, ITEMS + 1) ** -0.7)
    place = np.searchsorted(share_N, rng.random(rows) * share_N[-1])
    return np.minimum(place, ITEMS - 1).astype(np.int64) + _FIRST_ITEM
