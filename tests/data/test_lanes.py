"""Lanes with groups kept whole: nobody's group is in two of them unless it fits in none.

Shape legend
    G   groups
"""

import itertools

import numpy as np
import pytest

from dicm_jax.data.batches import BatchSource
from dicm_jax.data.lanes import BatchShape, lane_bounds
from tests import small_world

DRAWS = range(40)


def drawn(seed: int) -> tuple[np.ndarray, BatchShape]:
    """Groups of up to twice the size of a lane, some empty, and a shape of lanes."""
    rng = np.random.default_rng(seed)
    impressions = int(rng.integers(1, 30))
    sizes_G = rng.integers(0, 2 * impressions + 1, rng.integers(1, 80))
    sizes_G[-1] += 1  # there is something
    shape = BatchShape(1, impressions, int(rng.integers(1, 9)), 1, whole_groups=True)
    return sizes_G, shape


def cells(sizes_G: np.ndarray, shape: BatchShape) -> list[np.ndarray]:
    """The group of every impression, lane by lane."""
    ends_G = np.cumsum(sizes_G)
    group_of = np.repeat(np.arange(len(sizes_G)), sizes_G)
    bounds = lane_bounds(ends_G, shape)
    assert (bounds[0], bounds[-1]) == (0, ends_G[-1])
    return [group_of[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("seed", DRAWS)
def test_no_group_that_fits_in_a_lane_is_in_two(seed):
    sizes_G, shape = drawn(seed)
    lanes = cells(sizes_G, shape)
    for lane in lanes:
        assert 0 < len(lane) <= shape.impressions
        assert len(np.unique(lane)) <= shape.groups
    lanes_of = np.bincount(np.concatenate([np.unique(lane) for lane in lanes]))
    for group in np.flatnonzero(lanes_of > 1):
        assert sizes_G[group] > shape.impressions
        # It starts a lane, and fills all it is in but the last.
        held = [int((lane == group).sum()) for lane in lanes if (lane == group).any()]
        assert held[:-1] == [shape.impressions] * (len(held) - 1)


@pytest.mark.parametrize("seed", DRAWS)
def test_a_lane_is_closed_only_before_a_group_that_does_not_fit(seed):
    sizes_G, shape = drawn(seed)
    lanes = cells(sizes_G, shape)
    for lane, following in itertools.pairwise(lanes):
        room = shape.impressions - len(lane)
        full = following[0] - lane[0] >= shape.groups  # groups without impressions take places too
        assert full or room == 0 or sizes_G[following[0]] > room


def test_groups_that_are_not_kept_whole_leave_no_room():
    """So that the setting does change something."""
    sizes_G, shape = np.full(30, 7), BatchShape(1, 10, 10, 1)
    assert [len(lane) for lane in cells(sizes_G, shape)] == [10] * 21
    whole = BatchShape(1, 10, 10, 1, whole_groups=True)
    assert [len(lane) for lane in cells(sizes_G, whole)] == [7] * 30


def test_whole_groups_in_batches_have_every_impression_once():
    train = small_world.log().train
    shape = BatchShape(lanes=4, impressions=11, groups=5, behaviors=3, whole_groups=True)
    source = BatchSource(small_world.log(), train, shape, epochs=1, seed=0)
    sizes_G = np.diff(train.impression_offsets)
    seen = []
    for n in range(len(source)):
        for impression_B in source[n].impression_AB:
            held_B = impression_B[impression_B >= 0]
            group_B = np.searchsorted(train.impression_offsets, held_B, side="right") - 1
            groups, counts = np.unique(group_B, return_counts=True)
            np.testing.assert_array_equal(counts, sizes_G[groups])
            seen.append(held_B)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(train.n_impressions))
