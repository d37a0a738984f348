"""Past-only counts against loops over the events, and the buckets."""

import numpy as np
import pytest

from dicm_jax.data.statistics import BUCKET_EDGES, N_BUCKETS, bucket, dated_events

N_OWNERS = 12


@pytest.fixture(name="events")
def _events():
    rng = np.random.default_rng(0)
    # Owners 0 and 11 have no event; days start far from 0.
    return rng.integers(1, N_OWNERS - 1, 200).astype(np.int32), rng.integers(900, 960, 200)


@pytest.fixture(name="queries")
def _queries():
    days = np.arange(850, 1000)
    return np.repeat(np.arange(N_OWNERS), len(days)), np.tile(days, N_OWNERS)


def _loop(events, queries, statistic):
    owner_P, day_P = events
    return [
        statistic(day, [d for o, d in zip(owner_P, day_P, strict=True) if o == owner and d < day])
        for owner, day in zip(*queries, strict=True)
    ]


@pytest.mark.parametrize(
    ("method", "statistic"),
    [
        ("count", lambda day, past: len(past)),
        ("days_since_first", lambda day, past: day - min(past) if past else 0),
        ("days_since_last", lambda day, past: day - max(past) if past else 0),
    ],
)
def test_statistics_equal_loops_over_strictly_earlier_events(events, queries, method, statistic):
    owner_P, day_P = events
    dated = dated_events(owner_P, day_P, N_OWNERS)
    found = getattr(dated, method)(*queries)
    np.testing.assert_array_equal(found, _loop(events, queries, statistic))


@pytest.mark.parametrize("most", [1, 4, 1000])
def test_newest_events_equal_a_loop_over_strictly_earlier_events(events, queries, most):
    owner_P, day_P = events
    dated = dated_events(owner_P, day_P, N_OWNERS)
    offsets, position_H = dated.newest(*queries, most=most)
    in_order_P = day_P[np.lexsort((day_P, owner_P))]  # positions are those of sorted events
    expected = _loop(events, queries, lambda day, past: sorted(past)[-most:])
    for number, days in enumerate(expected):
        found = position_H[offsets[number] : offsets[number + 1]]
        assert in_order_P[found].tolist() == days
        assert set(np.sort(owner_P)[found]) <= {queries[0][number]}


def test_statistics_of_no_events_are_zero():
    dated = dated_events(np.empty(0, np.int32), np.empty(0, np.int32), 3)
    owner_Q, day_Q = np.array([0, 2]), np.array([5, 5])
    for found in (
        dated.count(owner_Q, day_Q),
        dated.days_since_first(owner_Q, day_Q),
        dated.days_since_last(owner_Q, day_Q),
    ):
        np.testing.assert_array_equal(found, [0, 0])


def test_buckets_are_log_spaced_and_all_in_use():
    counts = np.arange(2**21)
    buckets = bucket(counts)
    assert buckets.dtype == np.int32
    assert buckets[:7].tolist() == [0, 1, 2, 3, 4, 4, 5]
    np.testing.assert_array_equal(np.unique(buckets), np.arange(N_BUCKETS))
    assert (np.diff(buckets) >= 0).all()
    # Above the single counts, two edges make a doubling (to rounding).
    np.testing.assert_allclose(BUCKET_EDGES[7:] / BUCKET_EDGES[5:-2], 2, rtol=0.1)
