"""How queries are cut and packed into calls: every candidate once, in order."""

import numpy as np
import pytest

from dicm_jax.serving.buckets import OFFLINE, USUAL, Bucket, Encoded, filled, packed

SETS = {
    "usual": USUAL,
    "offline": OFFLINE,
    "one": (Bucket(1, 32),),
    "mixed": (Bucket(1, 32), Bucket(3, 64), Bucket(1, 64), Bucket(5, 128)),
}


def _drawn(rng: np.random.Generator) -> list[int]:
    return rng.choice(
        [1, 2, 31, 32, 33, 127, 128, 129, 400, 1025], int(rng.integers(1, 30))
    ).tolist()


@pytest.mark.parametrize("name", SETS)
def test_every_candidate_is_answered_once_and_in_order(name):
    buckets, rng = SETS[name], np.random.default_rng(0)
    for _ in range(60):
        sizes = _drawn(rng)
        calls = list(packed(sizes, buckets))
        answered = [
            (query, candidate)
            for call in calls
            for query, first, end in call.pieces
            for candidate in range(first, end)
        ]
        assert answered == [(q, c) for q, size in enumerate(sizes) for c in range(size)]
        for call in calls:
            assert call.bucket in buckets
            assert len(call.pieces) <= call.bucket.users
            assert sum(end - first for _, first, end in call.pieces) <= call.bucket.candidates


@pytest.mark.parametrize("name", SETS)
def test_a_query_is_cut_only_where_it_has_to_be(name):
    buckets, rng = SETS[name], np.random.default_rng(1)
    largest = max(bucket.candidates for bucket in buckets)
    for _ in range(60):
        sizes = _drawn(rng)
        pieces = [piece for call in packed(sizes, buckets) for piece in call.pieces]
        for query, size in enumerate(sizes):
            assert sum(q == query for q, _, _ in pieces) == -(-size // largest)


def test_ten_thousand_candidates_take_as_few_calls_as_can_be():
    calls = list(packed([10_000], USUAL))
    assert [call.bucket.candidates for call in calls] == [400] * 25
    assert list(packed([], USUAL)) == []
    assert list(packed([0, 0], USUAL)) == []


def test_the_smallest_bucket_that_fits_is_taken():
    for size, wanted in ((1, 32), (32, 32), (33, 128), (128, 128), (129, 400), (400, 400)):
        (call,) = packed([size], USUAL)
        assert call.bucket == Bucket(1, wanted)


def test_what_is_not_filled_is_nothing():
    """Against filling by hand, one candidate at a time."""
    rng = np.random.default_rng(2)
    queries = [
        Encoded(
            user_F=rng.integers(1, 9, 3).astype(np.int32),
            behavior_L=rng.integers(1, 9, length).astype(np.int32),
            item_B=rng.integers(1, 9, size).astype(np.int32),
            context_BF=rng.integers(1, 9, (size, 2)).astype(np.int32),
        )
        for size, length in ((40, 0), (7, 5), (1, 2), (90, 5))
    ]
    for call in packed([40, 7, 1, 90], SETS["mixed"]):
        asked = filled(call, queries, behaviors=5)
        wanted = {name: np.zeros_like(array) for name, array in asked.items()}
        at = 0
        for user, (number, first, end) in enumerate(call.pieces):
            query = queries[number]
            wanted["user_GF"][user] = query.user_F
            for place, behavior in enumerate(query.behavior_L):
                wanted["behavior_GL"][user, place] = behavior
            for candidate in range(first, end):
                wanted["item_B"][at] = query.item_B[candidate]
                wanted["context_BF"][at] = query.context_BF[candidate]
                wanted["group_B"][at] = user
                at += 1
        assert asked.keys() == wanted.keys()
        for name in asked:
            np.testing.assert_array_equal(asked[name], wanted[name], err_msg=name)
            assert asked[name].dtype == np.int32
        assert len(asked["item_B"]) == call.bucket.candidates
        assert asked["behavior_GL"].shape == (call.bucket.users, 5)
