"""A look at a log (`Scan`) as a file, so that machines can hand it on.

The file is an Arrow table of one row, in which every column is a list.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.preparation.scan import Scan
from dicm_jax.preparation.vocabularies import hashed

_VALUES, _SKETCH = "values.", "sketch."


def save(scan: Scan, path: Path) -> None:
    """Writes a file, the same for the same scan."""
    columns = {
        "tables": pa.array(sorted(scan.rows), pa.large_string()),
        "rows": pa.array([scan.rows[table] for table in sorted(scan.rows)], pa.int64()),
        "slots": pa.array(sorted(scan.slots), pa.int64()),
        "impressions": pa.array([scan.slots[slot] for slot in sorted(scan.slots)], pa.int64()),
    }
    columns |= {_VALUES + field: scan.values[field] for field in sorted(scan.values)}
    columns |= {
        _SKETCH + field: pa.array(scan.sketches[field], pa.uint64())
        for field in sorted(scan.sketches)
    }
    row = pa.record_batch({name: _listed(column) for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, row.schema) as writer:
        writer.write_batch(row)


def load(path: Path) -> Scan:
    """Reads what `save` wrote."""
    with pa.OSFile(str(path), "rb") as file:
        row = pa.ipc.open_file(file).get_batch(0)
    columns = {name: row[name].flatten() for name in row.schema.names}
    return Scan(
        rows=dict(zip(columns["tables"].to_pylist(), columns["rows"].to_pylist(), strict=True)),
        values=_after(_VALUES, columns),
        sketches={
            field: column.to_numpy(zero_copy_only=False)
            for field, column in _after(_SKETCH, columns).items()
        },
        slots=dict(
            zip(columns["slots"].to_pylist(), columns["impressions"].to_pylist(), strict=True)
        ),
    )


def shares(scan: Scan, count: int) -> Iterator[Scan]:
    """Cuts a scan into `count` shares, which together are the scan; equal values go alike.

    Values are shared out by their hash; everything else is in the first share, and so is every
    field, so that one without a value is not lost.
    """
    share_of = {
        field: (hashed(values) % np.uint64(count)).astype(np.int64)
        for field, values in scan.values.items()
    }
    for share in range(count):
        values = {
            field: scan.values[field].filter(pa.array(share_U == share))
            for field, share_U in share_of.items()
            if share == 0 or (share_U == share).any()
        }
        yield dataclasses.replace(scan, values=values) if share == 0 else Scan({}, values, {}, {})


def _listed(column: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(column)], pa.int64()), column)


def _after(prefix: str, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """The columns whose names begin with `prefix`, by what comes after it."""
    return {
        name.removeprefix(prefix): column
        for name, column in columns.items()
        if name.startswith(prefix)
    }
