"""A first look at a log: which values there are, and when impressions were.

Shape legend
    E   rows of a chunk     U   distinct values of a chunk     K   hashes kept of a sketch
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dicm_jax.errors import DataError
from dicm_jax.preparation.columns import NO_TIME, as_text, missing, seconds
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.sources import TABLES
from dicm_jax.preparation.tables import Fragment, chunks
from dicm_jax.preparation.vocabularies import hashed, merged

USER = "user"
SLOT_S = 3600
"""Impressions are counted by the hour, to cut them into shards of like size."""
_SKETCH = 4096
_LEAST_JOINED = 1 << 22
"""Values of several scans that are held before they are joined."""


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
      DataError: a file that cannot be read, a column of a wrong type, or as `joined`.
    """
    columns = _columns(config, fragment.table)
    time = config.impressions.time
    wanted = [*columns.values(), *([time] if fragment.table == "impressions" else [])]
    seen = Seen(config)
    seen.add(Scan({fragment.table: 0}, {}, {}, {}))
    for chunk in chunks(fragment, wanted, config.runner.chunk_rows):
        seen.add(_of_chunk(config, fragment, columns, chunk))
    return seen.all()


class Seen:
    """Scans put together as they come: what is held grows with distinct values, not with rows.

    Args:
      config: of the preparation.
    """

    def __init__(self, config: PrepareConfig):
        self._config = config
        self._scans: list[Scan] = []
        self._held = self._joined_at = 0
        self._alone = threading.Lock()

    def add(self, scan: Scan) -> None:
        """Takes one more; called from several threads.

        Raises:
          DataError: as `joined`.
        """
        with self._alone:
            self._scans.append(scan)
            self._held += _size(scan)
            if self._held > 2 * self._joined_at + _LEAST_JOINED:
                self._scans = [joined(self._config, self._scans)]
                self._held = self._joined_at = _size(self._scans[0])

    def all(self) -> Scan:
        """All that were added, as one.

        Raises:
          DataError: as `joined`.
        """
        return joined(self._config, self._scans)


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
    rows = {
        table: sum(scan.rows[table] for scan in scans if table in scan.rows)
        for table in TABLES
        if any(table in scan.rows for scan in scans)
    }
    slots: dict[int, int] = {}
    for one in scans:
        for slot, count in one.slots.items():
            slots[slot] = slots.get(slot, 0) + count
    return Scan(rows, values, sketches, dict(sorted(slots.items())))


def _of_chunk(
    config: PrepareConfig, fragment: Fragment, columns: Mapping[str, str], chunk: pa.Table
) -> Scan:
    values, sketches, slots = {}, {}, {}
    for field, column in columns.items():
        texts = as_text(fragment.path, column, chunk[column])
        texts = merged([texts.filter(pa.array(~missing(texts)))])
        if field in config.ids.hashed:
            sketches[field] = _smallest(hashed(texts))
        else:
            values[field] = texts
    if fragment.table == "impressions":
        time = config.impressions.time
        slots = _slots(seconds(fragment.path, time, chunk[time], config.time_unit))
    return Scan({fragment.table: chunk.num_rows}, values, sketches, slots)


def _size(scan: Scan) -> int:
    """Entries that a scan holds in memory."""
    return len(scan.slots) + sum(map(len, scan.values.values()))


def _columns(config: PrepareConfig, table: str) -> dict[str, str]:
    """The columns of a table whose values are looked at, by ID field."""
    if table == "users":
        return config.users.column_of
    if table == "behaviors":
        return {USER: config.behaviors.user}
    return {USER: config.impressions.user} | config.impressions.column_of


def _slots(second_E: np.ndarray) -> dict[int, int]:
    slot_U, count_U = np.unique(second_E[second_E != NO_TIME] // SLOT_S, return_counts=True)
    return dict(zip(slot_U.tolist(), count_U.tolist(), strict=True))


def _smallest(hash_U: np.ndarray) -> np.ndarray:
    return np.unique(hash_U)[:_SKETCH]


def _by_field(parts) -> dict[str, list]:  # noqa: ANN001
    """From a mapping for each fragment to a list for each field."""
    lists: dict[str, list] = {}
    for part in parts:
        for field, found in part.items():
            lists.setdefault(field, []).append(found)
    return lists
