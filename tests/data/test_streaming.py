"""Batches streamed from blocks on disk: what batches from memory hold, in another order.

Shape legend
    A   lanes of a batch     B   impressions     L   behaviors per group     K   blocks
"""

import dataclasses
import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from dicm_jax.ams.keys import IMAGE
from dicm_jax.data.batches import BatchSource, Source
from dicm_jax.data.frequency import key_counts
from dicm_jax.data.key_batch import KeyBatch
from dicm_jax.data.lanes import BatchShape
from dicm_jax.data.schema import ClickLog, StreamedGroups
from dicm_jax.data.streaming.parts import Order, equal_parts
from dicm_jax.data.streaming.source import StreamSource
from tests import small_world
from tests.data import streamed_set

SHAPES = [
    BatchShape(lanes=8, impressions=6, groups=3, behaviors=4),
    BatchShape(lanes=4, impressions=16, groups=2, behaviors=2),  # closed early by the groups
    BatchShape(lanes=4, impressions=4, groups=4, behaviors=30),  # groups split over lanes
    BatchShape(lanes=4, impressions=11, groups=5, behaviors=3, whole_groups=True),
    BatchShape(lanes=64, impressions=50, groups=20, behaviors=6),  # parts smaller than a block
    BatchShape(lanes=256, impressions=2, groups=1, behaviors=1),  # parts without a group
]


@pytest.fixture(scope="module", name="log")
def _log(tmp_path_factory) -> ClickLog[StreamedGroups]:
    return streamed_set.load(streamed_set.write(tmp_path_factory.mktemp("sets") / "small"))


def source(
    log: ClickLog[StreamedGroups],
    shape: BatchShape = SHAPES[0],
    *,
    split: StreamedGroups | None = None,
    window_blocks: int = 3,
    seed: int | None = 3,
    epochs: int = 2,
) -> StreamSource:
    split = log.train if split is None else split
    return StreamSource(log, split, shape, window_blocks=window_blocks, epochs=epochs, seed=seed)


def of_epoch(batched: StreamSource, epoch: int) -> range:
    return range(*batched.first_batch[epoch : epoch + 2])


def held(batches: list[KeyBatch]) -> np.ndarray:
    """The impressions that batches hold, in order."""
    flat = np.concatenate([batch.impression_AB.ravel() for batch in batches])
    return flat[flat >= 0]


def equal(a: KeyBatch, b: KeyBatch) -> bool:
    one, other = (dataclasses.asdict(batch) for batch in (a, b))
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_over_all_processes_every_impression_comes_once_an_epoch(log, shape, processes):
    everything = np.arange(log.train.n_impressions)
    own_lanes = np.split(np.arange(shape.lanes), processes)
    sources = [source(log, shape) for _ in own_lanes]
    for epoch in (0, 1):
        seen = [
            held([batched.lanes(n, own) for n in of_epoch(batched, epoch)])
            for batched, own in zip(sources, own_lanes, strict=True)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), everything)


@pytest.mark.parametrize("window_blocks", [1, 4, 1000])
def test_an_epoch_is_whole_whatever_the_window(log, window_blocks):
    batched = source(log, window_blocks=window_blocks)
    seen = held([batched[n] for n in of_epoch(batched, 1)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(log.train.n_impressions))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_some_lanes_of_a_batch_are_those_of_the_whole(log, shape):
    whole, in_part = source(log, shape), source(log, shape)
    for n in range(0, len(whole), 3):
        for which in ([0], [shape.lanes - 1, 1], range(1, shape.lanes, 2)):
            lanes = np.array(which)
            assert equal(in_part.lanes(n, lanes), whole[n].take(lanes))


def test_batches_in_any_order_are_those_of_the_sequence(log):
    in_order, at_random = source(log), source(log)
    expected = [in_order[n] for n in range(len(in_order))]
    for n in np.random.default_rng(0).permutation(len(expected)):
        assert equal(at_random[int(n)], expected[n])


def test_threads_get_the_batches_of_the_sequence(log):
    in_order, shared = source(log), source(log)
    numbers = np.random.default_rng(0).permutation(np.arange(len(in_order)))
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: shared[int(n)], numbers))
    for n, batch in zip(numbers, made, strict=True):
        assert equal(batch, in_order[int(n)])


def test_epochs_and_seeds_differ_in_their_order_and_nothing_else_does(log):
    one, same, other = source(log), source(log), source(log, seed=4)
    first, second = ([one[n] for n in of_epoch(one, epoch)] for epoch in (0, 1))
    length = min(len(held(first)), len(held(second)))
    assert (held(first)[:length] != held(second)[:length]).mean() > 0.9
    assert all(equal(same[n], batch) for n, batch in enumerate(first))
    assert not equal(other[0], one[0])
    # Blocks change places, and groups of a window do.
    order = Order(log.train, SHAPES[0], 3, 3)
    blocks = [
        [run.block for part in order.parts(e) for w in part.windows for run in w] for e in (0, 1)
    ]
    assert blocks[0] != blocks[1]


def test_groups_of_a_window_are_mixed(log):
    offsets = np.cumsum([0, *log.train.sizes_G])
    batched = source(log, seed=3)
    lane = np.concatenate([batched.lanes(n, np.array([2])).impression_AB[0] for n in range(6)])
    group = np.searchsorted(offsets, lane[lane >= 0], side="right") - 1
    _, first = np.unique(group, return_index=True)
    in_order_of_coming = group[np.sort(first)]
    blocks = np.searchsorted(log.train.first_group_K, in_order_of_coming, side="right")
    assert (np.diff(blocks) != 0).sum() > len(np.unique(blocks))  # back and forth


def test_without_a_seed_lanes_go_through_the_log_in_order(log):
    batched = source(log, seed=None, epochs=1)
    lanes = np.concatenate([batched[n].impression_AB for n in range(len(batched))], axis=1)
    np.testing.assert_array_equal(lanes[lanes >= 0], np.arange(log.train.n_impressions))


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_each_impression_has_the_keys_that_it_has_from_memory(log, shape):
    in_memory = BatchSource(small_world.log(), small_world.log().train, shape, seed=0)
    expected, found = _by_impression(in_memory), _by_impression(source(log, shape, epochs=1))
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def _by_impression(batched: Source) -> dict[str, np.ndarray]:
    """Everything that a model sees of each impression, in the order of their numbers."""
    rows, numbers = {}, []
    for batch in (batched[n] for n in range(len(batched))):
        lane, place = np.nonzero(batch.impression_AB >= 0)
        group = batch.group_AB[lane, place]
        numbers.append(batch.impression_AB[lane, place])
        seen = {
            "user": batch.user_AGF[lane, group],
            "impression": batch.impression_ABF[lane, place],
            "behavior": batch.behavior_AGLF[lane, group],
            "image": batch.ad_AB[IMAGE][lane, place],
            "behavior image": batch.behavior_content_AGL[IMAGE][lane, group],
            "mask": batch.mask_AGL[lane, group],
            "label": batch.label_AB[lane, place],
            "weight": batch.weight_AB[lane, place],
        }
        for name, values in seen.items():
            rows.setdefault(name, []).append(values)
    in_order = np.argsort(np.concatenate(numbers))
    return {name: np.concatenate(values)[in_order] for name, values in rows.items()}


def test_shuffled_images_reach_streamed_batches(log, tmp_path):
    permuted = streamed_set.load(streamed_set.write(tmp_path / "set"), permute_images=True, seed=1)
    plain, shuffled = source(log)[0], source(permuted)[0]
    np.testing.assert_array_equal(plain.impression_ABF, shuffled.impression_ABF)
    real_AB = plain.impression_AB >= 0
    start = source(log).stack.start["image"]  # the field "image" numbers the items
    item_AB = np.where(real_AB, plain.impression_ABF[..., 0] - start, 0)
    expected_AB = permuted.items.image_N[item_AB]
    np.testing.assert_array_equal(shuffled.ad_AB[IMAGE][real_AB], expected_AB[real_AB])
    assert (shuffled.ad_AB[IMAGE] != plain.ad_AB[IMAGE])[real_AB].mean() > 0.5


def test_keys_are_counted_by_walking_the_blocks(log):
    in_memory = BatchSource(small_world.log(), small_world.log().train, SHAPES[0])
    np.testing.assert_array_equal(key_counts(source(log)), key_counts(in_memory))


def test_blocks_of_other_parts_are_not_read_and_own_ones_once(log):
    shape = SHAPES[0]
    read_by = []
    for own in np.split(np.arange(shape.lanes), 4):
        split, reads = streamed_set.counted(log.train)
        batched = source(log, shape, split=split, window_blocks=2, epochs=1)
        for n in range(len(batched)):
            batched.lanes(n, own)
        parts = Order(log.train, shape, 2, 3).parts(0)
        runs = [run.block for part in own for window in parts[part].windows for run in window]
        assert reads == Counter(runs)
        assert len(reads) <= log.train.n_blocks / 4 + 2
        read_by.append(set(reads))
    assert set.union(*read_by) == set(range(log.train.n_blocks))
    assert sum(map(len, read_by)) < log.train.n_blocks + 4  # a block where two parts meet


@pytest.mark.parametrize("parts", [1, 2, 7, 64, 1024])
def test_parts_are_as_equal_as_whole_groups_allow(log, parts):
    order_K = np.random.default_rng(1).permutation(log.train.n_blocks)
    cut = equal_parts(log.train, order_K, parts)
    assert len(cut) == parts
    offsets = np.cumsum([0, *log.train.sizes_G])
    first_K = log.train.first_group_K
    lengths = [
        sum(
            offsets[first_K[run.block] + run.end] - offsets[first_K[run.block] + run.first]
            for run in runs
        )
        for runs in cut
    ]
    assert sum(lengths) == log.train.n_impressions
    assert max(lengths) - min(lengths) <= 2 * log.train.sizes_G.max()
    together = list(itertools.chain.from_iterable(cut))
    for one, following in itertools.pairwise(together):
        if one.block == following.block:
            assert one.end == following.first
        else:
            assert following.first == 0
            assert one.end == np.diff(first_K)[one.block]


def test_few_cells_are_lost_where_windows_end(log):
    """Lanes are closed with their window: of a part that is one window, one lane is not full."""
    shape = BatchShape(lanes=4, impressions=8, groups=8, behaviors=1)
    batched = source(log, shape, window_blocks=100, epochs=1)
    in_memory = BatchSource(small_world.log(), small_world.log().train, shape)
    assert len(batched) <= len(in_memory) + 1


def test_a_source_ends(log):
    batched = source(log)
    for beyond in (-1, len(batched)):
        with pytest.raises(IndexError, match=f"batch {beyond} of a source of {len(batched)}"):
            batched[beyond]
