"""What is wrong with a streamed set is said where it is met, with the record and the value."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from dicm_jax.config import Config, DataConfig, EvaluateConfig, TrainConfig
from dicm_jax.data.frequency import key_counts
from dicm_jax.data.holdout import with_validation
from dicm_jax.data.lanes import BatchShape
from dicm_jax.data.prepared.shards import DATASET_FOLDER, shard_name
from dicm_jax.data.schema import ClickLog, GroupedImpressions, StreamedGroups
from dicm_jax.data.streaming.parts import Order
from dicm_jax.data.streaming.source import StreamSource
from dicm_jax.data.validate import validate
from dicm_jax.errors import ConfigError, DataError
from tests import small_world
from tests.data import streamed_set

SHAPE = BatchShape(lanes=8, impressions=6, groups=3, behaviors=4)


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory) -> Path:
    return streamed_set.write(tmp_path_factory.mktemp("sets") / "small")


@pytest.fixture(scope="module", name="log")
def _log(folder) -> ClickLog[StreamedGroups]:
    return streamed_set.load(folder)


def source(
    log: ClickLog[StreamedGroups], split: StreamedGroups | None = None, shape: BatchShape = SHAPE
) -> StreamSource:
    return StreamSource(log, log.train if split is None else split, shape, window_blocks=3, seed=0)


def read_all(batched: StreamSource) -> None:
    for n in range(len(batched)):
        batched[n]


def with_wrong(number: int, **values):
    """Block `number` with the first value of arrays replaced."""

    def change(found: int, block: GroupedImpressions) -> GroupedImpressions:
        if found != number:
            return block
        arrays = {name: getattr(block, name).copy() for name in values}
        for name, value in values.items():
            arrays[name].reshape(-1)[0] = value
        return dataclasses.replace(block, **arrays)

    return change


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"item_B": 2500}, r"item_B: 2500 at 0; every value must lie in \[0, 2500\)"),
        ({"behavior_item_H": -3}, r"behavior_item_H: -3 at 0; every value must lie in"),
        ({"user_ids_GF": 5}, r"user_ids_GF, field 'age': 5 at 0; every value must lie in \[0, 5\)"),
        ({"context_ids_BF": 10}, "field 'position': 10 at 0"),
        ({"click_B": 2}, r"click_B: 2 at 0; every value must lie in \[0, 2\)"),
        ({"cold_B": True}, "cold_B marks 1 impressions; .* is not cold: clear them"),
    ],
)
def test_an_unsound_block_is_named_when_it_is_read(log, values, message):
    split = streamed_set.reading(log.train, with_wrong(17, **values))
    validate(dataclasses.replace(log, train=split))  # reads no block
    batched = source(log, split)
    with pytest.raises(DataError, match=rf"split 'train', record 17.?.*{message}"):
        read_all(batched)
    with pytest.raises(DataError, match=rf"split 'train', record 17.?.*{message}"):
        key_counts(batched)


def test_all_batches_come_before_those_that_want_an_unsound_block(log):
    """Blocks are read ahead, but what is wrong with one is told to who needs it."""
    shape = dataclasses.replace(SHAPE, lanes=2)
    part = Order(log.train, shape, 3, 0).parts(0)[0]
    number, wanted_from = part.windows[-1][0].block, int(part.first_lane_W[-2])
    assert wanted_from > 10
    split = streamed_set.reading(log.train, with_wrong(number, item_B=2500))
    bad, sound = source(log, split, shape), source(log, shape=shape)
    for n in range(wanted_from):
        np.testing.assert_array_equal(bad[n].impression_AB, sound[n].impression_AB)
    for _ in range(2):
        with pytest.raises(DataError, match=f"record {number}"):
            bad[wanted_from]


def test_blocks_that_are_not_those_of_the_sizes_are_named(log):
    def other(number: int, block: GroupedImpressions) -> GroupedImpressions:
        return log.train.read(4) if number == 3 else block

    batched = source(log, streamed_set.reading(log.train, other))
    with pytest.raises(
        DataError, match=r"record 3: 5 groups of \d+ impressions, where 5 of \d+ are recorded.*copy"
    ):
        read_all(batched)


def test_sizes_of_another_set_are_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    np.save(copy / "sizes-train.npy", np.ones(136, np.uint32))
    with pytest.raises(DataError, match=r"sizes-train.npy: \d+ bytes found, \d+ are recorded"):
        streamed_set.load(copy)


def test_a_damaged_record_is_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / DATASET_FOLDER / shard_name("train", 2, 5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        streamed_set.load(copy)
    log = streamed_set.load(copy, verify=False)
    batched = source(log)
    with pytest.raises(
        DataError,
        match=rf"{re.escape(str(copy))}.*record \d+ of split 'train' cannot be read.*copy",
    ):
        read_all(batched)


def test_a_streamed_split_cannot_be_had_whole(log):
    with pytest.raises(DataError, match=r"'train' of log 'small' is streamed from .*stream=false"):
        log.split("train")
    assert log.split("test") is log.test
    with pytest.raises(DataError, match="'train' of log 'small' is streamed"):
        with_validation(log, 0.1)
    assert with_validation(log, 0.0) is log


def test_a_streamed_split_without_impressions_is_refused(log):
    nobody = dataclasses.replace(log.train, sizes_G=np.zeros_like(log.train.sizes_G))
    with pytest.raises(DataError, match="train: 137 groups, 0 impressions; a split must not be"):
        validate(dataclasses.replace(log, train=nobody))


@pytest.mark.parametrize(
    ("data", "evaluate", "message"),
    [
        ({"kind": "hm"}, {}, r"data.stream=True with data.kind='hm'.*dicm_jax.prepare"),
        ({"validation_share": 0.1}, {}, r"data.validation_share=0.1: .*when the set is prepared"),
        ({}, {"split": "train"}, r"evaluate.split='train': .*or set data.stream=false"),
    ],
)
def test_settings_that_a_streamed_split_excludes(data, evaluate, message):
    data = {"kind": "prepared", "path": "set", "stream": True} | data
    with pytest.raises(ConfigError, match=message):
        Config(data=DataConfig(**data), evaluate=EvaluateConfig(**evaluate))


def test_the_small_log_reads_back_as_it_was(log):
    """So that the tests of batches compare with the right thing."""
    blocks = [log.train.read(number) for number in range(log.train.n_blocks)]
    train = small_world.log().train
    for name in ("user_G", "user_ids_GF", "behavior_item_H", "item_B", "context_ids_BF", "click_B"):
        found = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(found, getattr(train, name), err_msg=name)


def test_a_prepared_set_may_bring_the_split_that_stops_a_run():
    data = DataConfig(kind="prepared", path="set", stream=True)
    train, evaluate = TrainConfig(patience=2), EvaluateConfig(every=10)
    assert Config(data=data, train=train, evaluate=evaluate).train.patience == 2
    with pytest.raises(ConfigError, match=r"train.patience=2 with data.validation_share=0.0"):
        Config(train=train, evaluate=evaluate)


def test_a_set_without_that_split_is_told_so(log):
    with pytest.raises(DataError, match=r"'validation'.*prepare the set with a validation split"):
        log.split("validation")
