"""Batches: every impression once an epoch, in cells that hold what a direct look-up finds.

Shape legend
    A   lanes of a batch     G   groups of a lane     B   impressions of a lane
    L   behaviors per group
"""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE, NO_ROW, PADDING
from dicm_jax.data.batches import BatchSource
from dicm_jax.data.key_batch import FieldStack, KeyBatch
from dicm_jax.data.lanes import BatchShape, lane_bounds
from dicm_jax.data.schema import NO_IMAGE
from tests import small_world

SHAPES = [
    BatchShape(lanes=8, impressions=6, groups=3, behaviors=4),
    BatchShape(lanes=1, impressions=1, groups=1, behaviors=1),
    BatchShape(lanes=3, impressions=16, groups=2, behaviors=2),  # closed early by the groups
    BatchShape(lanes=2, impressions=4, groups=4, behaviors=30),  # groups split over lanes
    BatchShape(lanes=5, impressions=7, groups=1, behaviors=3),
    BatchShape(lanes=64, impressions=50, groups=20, behaviors=6),  # one batch, half empty
]


def source(shape: BatchShape, **options: Any) -> BatchSource:
    options = {"epochs": 2, "seed": 3} | options
    return BatchSource(small_world.log(), small_world.log().train, shape, **options)


def batches(source: BatchSource, epoch: int = 0) -> list[KeyBatch]:
    first, end = source.first_batch[epoch : epoch + 2]
    return [source[n] for n in range(first, end)]


def impressions(batches: list[KeyBatch]) -> np.ndarray:
    """The impressions that batches hold, in order."""
    flat = np.concatenate([batch.impression_AB.ravel() for batch in batches])
    return flat[flat >= 0]


def equal(a: KeyBatch, b: KeyBatch) -> bool:
    one, other = (dataclasses.asdict(batch) for batch in (a, b))
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [None, 3])
def test_every_impression_once_an_epoch(shape, seed):
    batched = source(shape, seed=seed)
    everything = np.arange(small_world.log().train.n_impressions)
    for epoch in (0, 1):
        seen = impressions(batches(batched, epoch))
        np.testing.assert_array_equal(np.sort(seen), everything)
        if seed is None:
            np.testing.assert_array_equal(seen, everything)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batches_have_the_shape_asked_for_and_are_full_before_the_last(shape):
    batched = batches(source(shape))
    for batch in batched:
        assert batch.label_AB.shape == (shape.lanes, shape.impressions)
        assert batch.user_AGF.shape == (shape.lanes, shape.groups, 2)
        assert batch.impression_ABF.shape == (shape.lanes, shape.impressions, 3)
        assert batch.behavior_AGLF.shape == (shape.lanes, shape.groups, shape.behaviors, 2)
    for batch in batched[:-1]:
        assert (batch.weight_AB.sum(axis=1) > 0).all()
    for name in ("user_AGF", "impression_ABF", "behavior_AGLF", "group_AB"):
        assert {getattr(batch, name).dtype for batch in batched} == {np.dtype(np.int32)}
    assert {batch.ad_AB[IMAGE].dtype for batch in batched} == {np.dtype(np.int32)}
    assert {batch.behavior_content_AGL[IMAGE].dtype for batch in batched} == {np.dtype(np.int32)}


def expected_cell(stack: FieldStack, impression: int) -> dict[str, Any]:
    """What belongs to an impression, found by walking the log."""
    log = small_world.log()
    train, start = log.train, stack.start
    group = next(
        g for g in range(train.n_groups) if impression < int(train.impression_offsets[g + 1])
    )
    item = train.item_B[impression]
    age, likes = train.user_ids_GF[group]
    image, category = log.items.ids_NF[item]
    begin, end = train.behavior_offsets[group : group + 2]
    behaviors = train.behavior_item_H[begin:end]
    return {
        "user": [start["age"] + age, start["category"] + likes],
        "impression": [
            start["image"] + image,
            start["category"] + category,
            start["position"] + train.context_ids_BF[impression, 0],
        ],
        "ad_image": log.items.image_N[item],
        "behavior_ids": log.items.ids_NF[behaviors] + [start["image"], start["category"]],
        "behavior_images": log.items.image_N[behaviors],
        "label": train.click_B[impression],
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_cell_holds_what_a_direct_look_up_finds(shape):
    batched = source(shape)
    for batch in batches(batched)[:40]:
        for a, b in np.argwhere(batch.impression_AB >= 0):
            expected = expected_cell(batched.stack, int(batch.impression_AB[a, b]))
            g = batch.group_AB[a, b]
            np.testing.assert_array_equal(batch.user_AGF[a, g], expected["user"])
            np.testing.assert_array_equal(batch.impression_ABF[a, b], expected["impression"])
            assert batch.ad_AB[IMAGE][a, b] == expected["ad_image"]
            assert batch.label_AB[a, b] == expected["label"]
            assert batch.weight_AB[a, b] == 1
            newest = slice(-shape.behaviors, None)
            for name, keys_AGL in [
                ("behavior_ids", batch.behavior_AGLF),
                ("behavior_images", batch.behavior_content_AGL[IMAGE]),
            ]:
                keys = expected[name][newest]
                np.testing.assert_array_equal(keys_AGL[a, g, : len(keys)], keys)
                assert (keys_AGL[a, g, len(keys) :] == PADDING).all()


def test_every_content_has_keys_of_its_own():
    log = small_world.log_with_texts()
    key_of = {name: log.contents[name].key_N for name in (IMAGE, small_world.TEXT)}
    plain = source(SHAPES[0])
    with_texts = BatchSource(log, log.train, SHAPES[0], epochs=2, seed=3)
    for number in range(6):
        batch = with_texts[number]
        assert batch.ad_AB.keys() == batch.behavior_content_AGL.keys() == key_of.keys()
        item_AB = log.train.item_B[np.maximum(batch.impression_AB, 0)]
        for name, key_N in key_of.items():
            expected_AB = np.where(batch.impression_AB < 0, PADDING, key_N[item_AB])
            np.testing.assert_array_equal(batch.ad_AB[name], expected_AB)
            there_AGL = batch.behavior_content_AGL[name] != PADDING
            np.testing.assert_array_equal(there_AGL, batch.mask_AGL)
        assert (batch.ad_AB[small_world.TEXT] == NO_ROW).any()
        images_alone = dataclasses.replace(
            batch,
            ad_AB={IMAGE: batch.ad_AB[IMAGE]},
            behavior_content_AGL={IMAGE: batch.behavior_content_AGL[IMAGE]},
        )
        assert equal(images_alone, plain[number])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_not_an_impression_is_padding_throughout(shape):
    for batch in batches(source(shape)):
        empty_AB = batch.impression_AB < 0
        np.testing.assert_array_equal(batch.weight_AB, (~empty_AB).astype(np.float32))
        assert (batch.impression_ABF[empty_AB] == PADDING).all()
        assert (batch.ad_AB[IMAGE][empty_AB] == PADDING).all()
        assert not batch.label_AB[empty_AB].any()
        assert (batch.group_AB >= 0).all()
        for a in range(shape.lanes):
            used = set(batch.group_AB[a][~empty_AB[a]].tolist())
            real = set(np.flatnonzero(batch.user_AGF[a, :, 0] != PADDING).tolist())
            assert used == real
            unused = sorted(set(range(shape.groups)) - used)
            assert (batch.behavior_AGLF[a, unused] == PADDING).all()
            assert (batch.behavior_content_AGL[IMAGE][a, unused] == PADDING).all()


def test_the_shapes_split_groups_close_lanes_early_and_leave_lanes_empty():
    """So the tests above do meet these cases."""
    offsets = small_world.log().train.impression_offsets
    split = early = empty = 0
    for shape in SHAPES:
        for batch in batches(source(shape)):
            held_A = batch.weight_AB.sum(axis=1)
            early += int(((held_A < shape.impressions) & (held_A > 0)).sum()) > 1
            empty += int((held_A == 0).sum())
            last_A = [lane[lane >= 0][-1] for lane in batch.impression_AB if (lane >= 0).any()]
            split += int((~np.isin(np.array(last_A) + 1, offsets)).sum())
    assert min(split, early, empty) > 0
    images = np.concatenate([batch.ad_AB[IMAGE].ravel() for batch in batches(source(SHAPES[0]))])
    assert (images == NO_IMAGE).any()


def test_epochs_differ_in_their_order():
    batched = source(SHAPES[0])
    first, second = (impressions(batches(batched, epoch)) for epoch in (0, 1))
    assert (first != second).mean() > 0.9


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    one, same, other = (source(SHAPES[0], seed=seed) for seed in (3, 3, 4))
    assert len(one) == len(same)
    assert all(equal(one[n], same[n]) for n in range(len(one)))
    assert not all(equal(one[n], other[n]) for n in range(min(len(one), len(other))))


def test_batches_in_any_order_are_those_of_the_sequence():
    in_order = source(SHAPES[0])
    expected = [in_order[n] for n in range(len(in_order))]
    at_random = source(SHAPES[0])
    for n in np.random.default_rng(0).permutation(len(expected)):
        assert equal(at_random[int(n)], expected[n])


def test_an_epoch_does_not_depend_on_how_many_follow():
    short, long = source(SHAPES[0], epochs=1), source(SHAPES[0], epochs=3)
    assert all(equal(short[n], long[n]) for n in range(len(short)))
    assert len(long) > 2 * len(short)


def test_groups_without_impressions_are_passed_over():
    train = small_world.log().train
    offsets = train.impression_offsets.copy()
    offsets[1:4] = offsets[0]  # the first three, one in the middle and the last hold nothing
    offsets[50] = offsets[51]
    offsets[-2] = offsets[-1]
    holes = dataclasses.replace(train, impression_offsets=offsets)
    for shape in SHAPES:
        batched = BatchSource(small_world.log(), holes, shape, seed=1)
        np.testing.assert_array_equal(
            np.sort(impressions(batches(batched))), np.arange(train.n_impressions)
        )


def test_lane_bounds_are_as_wide_as_the_limits_allow():
    ends = np.cumsum(np.random.default_rng(0).integers(1, 10, 300))
    for shape in SHAPES:
        bounds = lane_bounds(ends, shape)
        assert (bounds[0], bounds[-1]) == (0, ends[-1])
        for start, end in itertools.pairwise(bounds):
            groups = np.unique(np.searchsorted(ends, np.arange(start, end), side="right"))
            assert end - start <= shape.impressions
            assert len(groups) <= shape.groups
            full = end - start == shape.impressions
            assert full or len(groups) == shape.groups or end == ends[-1]


def test_vocabularies_are_stacked_without_overlap_and_shared_by_name():
    stack = FieldStack(small_world.log())
    sizes = small_world.log().vocabulary_sizes
    taken = np.concatenate([stack.start[name] + np.arange(size) for name, size in sizes.items()])
    np.testing.assert_array_equal(np.sort(taken), np.arange(stack.n_keys))
    assert stack.user_F.tolist() == [stack.start["age"], stack.start["category"]]
    assert stack.item_F.tolist() == [stack.start["image"], stack.start["category"]]
    assert stack.impression_names == ("image", "category", "position")


def test_without_a_behavior_field_behaviors_have_no_id_keys():
    log = small_world.log()
    log = dataclasses.replace(log, fields=log.fields[:-2])
    batch = BatchSource(log, log.train, SHAPES[0])[0]
    assert batch.behavior_AGLF.shape[3] == 0
    assert (batch.behavior_content_AGL[IMAGE] != PADDING).any()


def test_a_split_without_any_behaviors():
    train = small_world.log().train
    nobody = dataclasses.replace(
        train,
        behavior_offsets=np.zeros_like(train.behavior_offsets),
        behavior_item_H=np.empty(0, np.int32),
    )
    batch = BatchSource(small_world.log(), nobody, SHAPES[0])[0]
    assert (batch.behavior_AGLF == PADDING).all()
    assert (batch.behavior_content_AGL[IMAGE] == PADDING).all()
    assert batch.weight_AB.any()


def test_a_source_ends():
    batches = source(SHAPES[0])
    for beyond in (-1, len(batches)):
        with pytest.raises(IndexError, match=f"batch {beyond} of a source of {len(batches)}"):
            batches[beyond]
