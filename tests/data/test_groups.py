"""Groups taken apart and put together, against lists of groups."""

import dataclasses

import numpy as np
import pytest

from dicm_jax.data.groups import chosen, cut, joined, places
from tests import small_world


@pytest.fixture(name="split", params=["all", "few"])
def _split(request):
    split = small_world.split(np.random.default_rng(4), 25)
    if request.param == "few":
        return split
    rng = np.random.default_rng(5)
    return dataclasses.replace(
        split,
        probability_B=rng.random(split.n_impressions).astype(np.float32),
        time_G=np.arange(split.n_groups) * 10,
    )


def _listed(split):
    """Every group as a tuple of lists."""
    groups = []
    for g in range(split.n_groups):
        rows = slice(*split.impression_offsets[g : g + 2])
        of_group = [split.user_G[g], split.user_ids_GF[g].tolist()]
        of_group.append(None if split.time_G is None else split.time_G[g])
        of_group.append(split.behavior_item_H[slice(*split.behavior_offsets[g : g + 2])].tolist())
        for array in (split.item_B, split.context_ids_BF, split.click_B, split.cold_B):
            of_group.append(array[rows].tolist())
        of_group.append(None if split.probability_B is None else split.probability_B[rows].tolist())
        groups.append(of_group)
    return groups


@pytest.mark.parametrize(("first", "end"), [(0, 25), (0, 0), (7, 7), (3, 11), (24, 25), (25, 25)])
def test_a_run_of_groups(split, first, end):
    part = cut(split, first, end)
    assert _listed(part) == _listed(split)[first:end]
    assert part.behavior_offsets[0] == part.impression_offsets[0] == 0


@pytest.mark.parametrize("which", [[], [3], [9, 2, 2, 24, 0], list(range(24, -1, -1))])
def test_chosen_groups(split, which):
    found = chosen(split, np.array(which, np.int64))
    assert _listed(found) == [_listed(split)[group] for group in which]


def test_joined_parts(split):
    parts = [cut(split, first, min(first + 7, 25)) for first in range(0, 25, 7)]
    assert _listed(joined(parts)) == _listed(split)
    assert _listed(joined([split])) == _listed(split)
    assert _listed(joined([cut(split, 0, 0), split])) == _listed(split)
    assert _listed(joined([split, split])) == _listed(split) * 2


def test_types_stay(split):
    for part in (cut(split, 2, 9), chosen(split, np.array([4, 4])), joined([split, split])):
        for field in dataclasses.fields(split):
            before, after = getattr(split, field.name), getattr(part, field.name)
            assert (before is None) == (after is None)
            if before is not None:
                assert after.dtype == before.dtype
                assert after.ndim == before.ndim


def test_what_only_one_part_knows_is_not_known_of_all():
    with_times = small_world.split(np.random.default_rng(4), 5)
    with_times = dataclasses.replace(with_times, time_G=np.arange(5))
    without = small_world.split(np.random.default_rng(6), 3)
    assert joined([with_times, without]).time_G is None


def test_places_of_no_group():
    offsets, where = places(np.array([0, 2, 5]), np.array([], np.int64))
    assert offsets.tolist() == [0]
    assert where.tolist() == []
