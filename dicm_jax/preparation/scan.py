"""A first look at a log: which values there are, and when impressions were.

Shape legend
    E   rows of a chunk     U   distinct values of a chunk     K   hashes kept of a sketch
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dicm_jax.errors import DataError
from dicm_jax.preparation.columns import NO_TIME, as_text, seconds
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.tables import Fragment, chunks
from dicm_jax.preparation.vocabularies import hashed, merged

USER = "user"
SLOT_S = 3600
"""Impressions are counted by the hour, to cut them into shards of like size."""
_SKETCH = 4096


@dataclasses.dataclass(frozen=True)
class Scan:
    """What was seen in some fragments.

    Attributes:
      rows: of each table.
      values: distinct texts of the fields that get a vocabulary, and of users, sorted.
      sketches: the smallest distinct 64-bit hashes of the values of hashed fields, uint64 ``[K]``,
        from which their number follows.
      slots: impressions by the hour (hours since 1970).
    """

    rows: Mapping[str, int]
    values: Mapping[str, pa.Array]
    sketches: Mapping[str, np.ndarray]
    slots: Mapping[int, int]

    def distinct(self, field: str) -> int:
        """Distinct values of a hashed field: exact up to 4,095, else to about 2 %."""
        sketch_K = self.sketches[field]
        if len(sketch_K) < _SKETCH:
            return len(sketch_K)
        return round((_SKETCH - 1) / (float(sketch_K[-1]) / 2.0**64))


def scan(config: PrepareConfig, fragment: Fragment) -> Scan:
    """Looks through one fragment.

    Raises:
      DataError: a file that cannot be read, or a column of a wrong type.
    """
    columns = _columns(config, fragment.table)
    time = config.impressions.time
    wanted = [*columns.values(), *([time] if fragment.table == "impressions" else [])]
    values: dict[str, list[pa.Array]] = {field: [] for field in columns}
    rows, slots = 0, {}
    for chunk in chunks(fragment, wanted, config.runner.chunk_rows):
        rows += chunk.num_rows
        for field, column in columns.items():
            values[field].append(as_text(fragment.path, column, chunk[column]).unique())
        if fragment.table == "impressions":
            _count(slots, seconds(fragment.path, time, chunk[time], config.time_unit))
    texts = {field: merged(parts).drop_null() for field, parts in values.items() if parts}
    return Scan(
        rows={fragment.table: rows},
        values={field: found for field, found in texts.items() if field not in config.ids.hashed},
        sketches={
            field: _smallest(hashed(found))
            for field, found in texts.items()
            if field in config.ids.hashed
        },
        slots=slots,
    )


def joined(config: PrepareConfig, scans: Sequence[Scan]) -> Scan:
    """What was seen in all fragments.

    Raises:
      DataError: a vocabulary is larger than ``ids.most``.
    """
    values = {
        field: merged(parts) for field, parts in _by_field(scan.values for scan in scans).items()
    }
    for field, found in values.items():
        if len(found) > config.ids.most:
            raise DataError(
                f"field {field!r} has {len(found):,} values, more than"
                f" ids.most={config.ids.most:,}:"
                f" hash it (ids.hashed), or raise ids.most if the memory is there"
            )
    sketches = {
        field: _smallest(np.concatenate(parts))
        for field, parts in _by_field(scan.sketches for scan in scans).items()
    }
    rows, slots = {}, {}
    for one in scans:
        for table, count in one.rows.items():
            rows[table] = rows.get(table, 0) + count
        for slot, count in one.slots.items():
            slots[slot] = slots.get(slot, 0) + count
    return Scan(rows, values, sketches, dict(sorted(slots.items())))


def _columns(config: PrepareConfig, table: str) -> dict[str, str]:
    """The columns of a table whose values are looked at, by ID field."""
    if table == "users":
        return config.users.column_of
    if table == "behaviors":
        return {USER: config.behaviors.user}
    return {USER: config.impressions.user} | config.impressions.column_of


def _count(slots: dict[int, int], second_E: np.ndarray) -> None:
    slot_U, count_U = np.unique(second_E[second_E != NO_TIME] // SLOT_S, return_counts=True)
    for slot, count in zip(slot_U.tolist(), count_U.tolist(), strict=True):
        slots[slot] = slots.get(slot, 0) + count


def _smallest(hash_U: np.ndarray) -> np.ndarray:
    return np.unique(hash_U)[:_SKETCH]


def _by_field(parts) -> dict[str, list]:  # noqa: ANN001
    """From a mapping for each fragment to a list for each field."""
    lists: dict[str, list] = {}
    for part in parts:
        for field, found in part.items():
            lists.setdefault(field, []).append(found)
    return lists
