"""Statistics of dated events that look only at strictly earlier days, and their buckets.

An *event* is something an *owner* has on a day: a purchase of a customer, a sale of an article.
Days are integers (days since any fixed date).

Shape legend
    P   events        O   owners        Q   queries (owner, day)
"""

import dataclasses

import numpy as np

_HALF_OCTAVES = 40
BUCKET_EDGES = np.unique(np.rint(2.0 ** (np.arange(_HALF_OCTAVES + 1) / 2)).astype(np.int64))
"""1, 2, 3, 4, 6, 8, 11, 16, 23, ... 2**20: two buckets per doubling, none of them empty."""

N_BUCKETS = len(BUCKET_EDGES) + 1


def bucket(counts: np.ndarray) -> np.ndarray:
    """Log-spaced bucket of each non-negative integer, int32 in ``[0, N_BUCKETS)``.

    Bucket 0 is the count 0; bucket ``k`` holds the counts from ``BUCKET_EDGES[k - 1]`` up to, but
    not including, ``BUCKET_EDGES[k]``. The edges are fixed, so they carry nothing of the data.

    Example:
      >>> bucket(np.array([0, 1, 2, 5, 2**20])).tolist()
      [0, 1, 2, 4, 40]
    """
    return np.searchsorted(BUCKET_EDGES, counts, side="right").astype(np.int32)


@dataclasses.dataclass(frozen=True)
class DatedEvents:
    """Events sorted by owner, then day, as one sorted key; made by `dated_events`.

    Every query looks at days strictly before ``day_Q`` alone. Sorted queries are answered several
    times faster than scattered ones.

    Attributes:
      key_P: int64, owner * span + (day - first_day), sorted.
      start_O: int64, position of each owner's first event, and the number of events at the end.
      first_day: the day of the earliest event.
      span: one more than the days from the first to the last event.
    """

    key_P: np.ndarray
    start_O: np.ndarray
    first_day: int
    span: int

    def start(self, owner_Q: np.ndarray) -> np.ndarray:
        """Position of each owner's first event."""
        return self.start_O[owner_Q]

    def end(self, owner_Q: np.ndarray, day_Q: np.ndarray) -> np.ndarray:
        """Position after the last event of each owner strictly before ``day_Q``."""
        # One day beyond the last event is as good as any later one, and stays within the span.
        offset_Q = np.clip(day_Q.astype(np.int64) - self.first_day, 0, self.span - 1)
        return np.searchsorted(self.key_P, owner_Q.astype(np.int64) * self.span + offset_Q)

    def count(self, owner_Q: np.ndarray, day_Q: np.ndarray) -> np.ndarray:
        """Events of each owner strictly before ``day_Q``."""
        return self.end(owner_Q, day_Q) - self.start(owner_Q)

    def newest(
        self, owner_Q: np.ndarray, day_Q: np.ndarray, most: int, *, within: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """CSR offsets and positions of each owner's newest events strictly before ``day_Q``.

        Args:
          owner_Q, day_Q: the queries.
          most: events of a query; older ones are left out.
          within: days before ``day_Q`` that are looked at; 0: all.
        """
        end_Q = self.end(owner_Q, day_Q)
        first_Q = self.end(owner_Q, day_Q - within) if within else self.start(owner_Q)
        length_Q = np.minimum(end_Q - first_Q, most)
        offsets = np.concatenate([[0], np.cumsum(length_Q)]).astype(np.int64)
        shift_Q = end_Q - length_Q - offsets[:-1]
        return offsets, np.repeat(shift_Q, length_Q) + np.arange(offsets[-1])

    def days_since_first(self, owner_Q: np.ndarray, day_Q: np.ndarray) -> np.ndarray:
        """Days from each owner's first event before ``day_Q``, at least 1; 0: there is none."""
        return self._days_since(self.start(owner_Q), owner_Q, day_Q)

    def days_since_last(self, owner_Q: np.ndarray, day_Q: np.ndarray) -> np.ndarray:
        """Days from each owner's last event before ``day_Q``, at least 1; 0: there is none."""
        return self._days_since(self.end(owner_Q, day_Q) - 1, owner_Q, day_Q)

    def _days_since(
        self, position_Q: np.ndarray, owner_Q: np.ndarray, day_Q: np.ndarray
    ) -> np.ndarray:
        if not len(self.key_P):
            return np.zeros(len(owner_Q), np.int64)
        # A position outside the owner's events can only be met where it has none, masked below.
        event_Q = self.key_P[np.clip(position_Q, 0, len(self.key_P) - 1)]
        elapsed_Q = day_Q - (event_Q % self.span + self.first_day)
        return np.where(self.count(owner_Q, day_Q) > 0, elapsed_Q, 0)


def dated_events(owner_P: np.ndarray, day_P: np.ndarray, n_owners: int) -> DatedEvents:
    """Sorts events of owners ``0 .. n_owners - 1``; the input may come in any order."""
    first_day = int(day_P.min()) if len(day_P) else 0
    span = int(day_P.max()) - first_day + 2 if len(day_P) else 1
    key_P = owner_P.astype(np.int64) * span + (day_P - first_day)
    key_P.sort()
    start_O = np.searchsorted(key_P, np.arange(n_owners + 1) * span)
    return DatedEvents(key_P=key_P, start_O=start_O, first_day=first_day, span=span)
