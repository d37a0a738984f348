"""IDs must tell rows apart: find the first that does not."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc


class Repeated(NamedTuple):
    """IDs that come more than once.

    Attributes:
      count: of such IDs.
      id: the first of them.
      rows: its first two rows.
    """

    count: int
    id: str
    rows: tuple[int, int]


def repeated(ids: pa.Array) -> Repeated | None:
    """The IDs that come more than once, or None where each comes once."""
    if len(ids.unique()) == len(ids):
        return None
    counts = ids.value_counts()
    several = pc.call_function("greater", [counts.field("counts"), 1])
    twice = counts.field("values").filter(several)
    rows = pc.call_function("indices_nonzero", [pc.call_function("equal", [ids, twice[0]])])
    return Repeated(len(twice), twice[0].as_py(), (rows[0].as_py(), rows[1].as_py()))
