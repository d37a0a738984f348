"""Shapes that programs are compiled for, and how queries are packed into calls of these shapes.

Shape legend
    G   users of a call     B   candidates of a call     L   behaviors per user
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A shape: so many users and candidates fit in a call.

    Candidates are a multiple of 16 and at least 32 (`dicm_jax.exporting.programs.CHUNK`).
    """

    users: int
    candidates: int


USUAL = (Bucket(1, 32), Bucket(1, 128), Bucket(1, 400))
"""Of a service: a call for each request."""
OFFLINE = (Bucket(64, 1024),)
"""Of many queries that are there at once."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A query as places.

    Attributes:
      user_F, behavior_L: of the user.
      item_B, context_BF: of the candidates.
    """

    user_F: np.ndarray
    behavior_L: np.ndarray
    item_B: np.ndarray
    context_BF: np.ndarray


@dataclasses.dataclass(frozen=True)
class Call:
    """Pieces of queries that are answered together.

    Attributes:
      bucket: the shape.
      pieces: number of the query, first and end of its candidates; one user each.
    """

    bucket: Bucket
    pieces: tuple[tuple[int, int, int], ...]


def packed(sizes: Sequence[int], buckets: Sequence[Bucket]) -> Iterator[Call]:
    """Calls for queries of so many candidates each, in order.

    A query of more candidates than the largest bucket has is cut; small ones share a call.

    Args:
      sizes: candidates of each query.
      buckets: shapes at hand.
    """
    largest = max(buckets, key=lambda bucket: bucket.candidates)
    waiting: list[tuple[int, int, int]] = []
    room = largest.candidates
    for query, size in enumerate(sizes):
        first = 0
        while first < size:
            taken = min(size - first, room)
            if len(waiting) == largest.users or taken < min(size - first, largest.candidates):
                yield _call(waiting, buckets)
                waiting, room = [], largest.candidates
                continue
            waiting.append((query, first, first + taken))
            first, room = first + taken, room - taken
    if waiting:
        yield _call(waiting, buckets)


def _call(pieces: list[tuple[int, int, int]], buckets: Sequence[Bucket]) -> Call:
    total = sum(end - first for _, first, end in pieces)
    fitting = [b for b in buckets if b.users >= len(pieces) and b.candidates >= total]
    bucket = min(fitting, key=lambda bucket: (bucket.candidates, bucket.users))
    return Call(bucket, tuple(pieces))


def filled(call: Call, queries: Sequence[Encoded], behaviors: int) -> dict[str, np.ndarray]:
    """The arrays of a call (`dicm_jax.exporting.programs.Asked`), nothing where it is not full."""
    users, candidates = call.bucket.users, call.bucket.candidates
    some = queries[call.pieces[0][0]]
    asked = {
        "user_GF": np.zeros((users, len(some.user_F)), np.int32),
        "behavior_GL": np.zeros((users, behaviors), np.int32),
        "item_B": np.zeros(candidates, np.int32),
        "context_BF": np.zeros((candidates, some.context_BF.shape[1]), np.int32),
        "group_B": np.zeros(candidates, np.int32),
    }
    at = 0
    for user, (number, first, end) in enumerate(call.pieces):
        query, into = queries[number], slice(at, at + end - first)
        asked["user_GF"][user] = query.user_F
        asked["behavior_GL"][user, : len(query.behavior_L)] = query.behavior_L
        asked["item_B"][into] = query.item_B[first:end]
        asked["context_BF"][into] = query.context_BF[first:end]
        asked["group_B"][into] = user
        at += end - first
    return asked
