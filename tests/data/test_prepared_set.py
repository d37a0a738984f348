"""Prepared sets: what is written is read back, and nothing else is taken for it."""

import dataclasses
import json
import shutil
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dicm_jax.config import DataConfig
from dicm_jax.data.groups import cut, joined
from dicm_jax.data.prepared import manifest
from dicm_jax.data.prepared.from_log import write_log
from dicm_jax.data.prepared.manifest import DATASET_FOLDER
from dicm_jax.data.prepared.reader import load
from dicm_jax.data.prepared.record import decode, encode, features
from dicm_jax.data.prepared.stream import streamed_split
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import Features, GroupedImpressions, StoredFeatures
from dicm_jax.errors import DataError
from dicm_jax.features.table_files import open_table
from tests import small_world


def _log(*, probability=True, time=True, seed=0):
    """The small log with everything that a split may have, and a validation split."""
    log = small_world.log()
    rng = np.random.default_rng(seed)

    def full(split, colds):
        p = rng.random(split.n_impressions).astype(np.float32) if probability else None
        t = np.sort(rng.integers(0, 2**40, split.n_groups)) if time else None
        cold = rng.random(split.n_impressions) < colds
        return dataclasses.replace(split, probability_B=p, time_G=t, cold_B=cold)

    train = full(log.train, 0.0)
    held = cut(train, 100, train.n_groups)
    notes = {"written": 1.0, "some": 2.5}
    return dataclasses.replace(
        log, train=cut(train, 0, 100), validation=held, test=full(log.test, 0.3), notes=notes
    )


def _write(log, folder, **changes):
    options = {"block_groups": 7, "shard_groups": 30, "storage": "float32", "settings": {"a": [1]}}
    return write_log(log, folder, **options | changes)


@pytest.fixture(name="original", scope="module")
def _original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "set"
    _write(_log(), folder)
    return folder


@pytest.fixture(name="folder")
def _folder(original, tmp_path):
    """A copy to damage; where the feature table lies is told from the set."""
    return shutil.copytree(original, tmp_path / "set")


def _stored(log):
    """Where the images of a log lie."""
    assert isinstance(log.features, StoredFeatures)
    return log.features


def _rows(log):
    """The images of a log that brings them along."""
    assert isinstance(log.features, Features)
    return log.features.rows_VD


def _assert_same(found, expected):
    assert isinstance(found, GroupedImpressions)
    for field in dataclasses.fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if b is None:
            assert a is None
        else:
            assert a.dtype == b.dtype
            assert_array_equal(a, b)


@pytest.mark.parametrize(("probability", "time"), [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("block_groups", [1, 7, 1000])
def test_a_log_comes_back(tmp_path, probability, time, block_groups):
    log = _log(probability=probability, time=time)
    prepared = _write(log, tmp_path / "set", block_groups=block_groups)
    found = load(str(tmp_path / "set"))
    for name in ("train", "validation", "test"):
        _assert_same(getattr(found, name), getattr(log, name))
    assert (found.name, found.fields) == (log.name, log.fields)
    assert found.vocabulary_sizes == log.vocabulary_sizes
    assert_array_equal(found.items.ids_NF, log.items.ids_NF)
    assert_array_equal(found.items.image_N, log.items.image_N)
    assert found.notes == log.notes
    assert manifest.load(tmp_path / "set") == prepared
    records = [shard.records for shard in prepared.splits["train"]]
    per_shard = [30, 30, 30, 10]
    assert records == [-(-groups // block_groups) for groups in per_shard]


def test_rows_of_features_come_back(original):
    log, found = _log(), load(str(original))
    assert (found.features.count, found.features.width) == (log.features.count, log.features.width)
    table = open_table(_stored(found).folder)
    keys = np.array([0, 5, 2299])
    rows, _ = table.gather(keys)
    stats = table.statistics
    expected = (_rows(log)[keys] - stats.mean_D) / stats.deviation_D
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)


def test_a_log_without_a_validation_split(tmp_path):
    log = dataclasses.replace(_log(), validation=None)
    _write(log, tmp_path / "set")
    assert load(str(tmp_path / "set")).validation is None


def test_equal_logs_are_equal_bytes(original, tmp_path):
    _write(_log(), tmp_path / "set")
    for path in sorted(original.rglob("*")):
        if path.is_file():
            other = tmp_path / "set" / path.relative_to(original)
            assert other.read_bytes() == path.read_bytes(), path


def test_counts_of_shards_are_those_of_the_groups(original):
    prepared, log = manifest.load(original), _log()
    for name, shards in prepared.splits.items():
        split = getattr(log, name)
        sums = {
            what: sum(getattr(shard, what) for shard in shards)
            for what in ("groups", "impressions", "behaviors", "clicks", "cold")
        }
        assert sums == {
            "groups": split.n_groups,
            "impressions": split.n_impressions,
            "behaviors": len(split.behavior_item_H),
            "clicks": int(split.click_B.sum()),
            "cold": int(split.cold_B.sum()),
        }
        sizes = np.load(original / manifest.sizes_name(name))
        assert_array_equal(sizes, np.diff(split.impression_offsets))


def test_a_record_is_the_same_bytes_each_time():
    block = cut(_log().train, 3, 9)
    assert encode(block) == encode(block)
    record: Any = features().deserialize_example_np(encode(block))
    _assert_same(decode(record), block)


def test_images_are_permuted_as_the_control_asks(original):
    plain, shuffled = load(str(original)), load(str(original), permute_images=True, seed=3)
    assert (plain.items.image_N != shuffled.items.image_N).mean() > 0.9
    assert_array_equal(np.sort(plain.items.image_N), np.sort(shuffled.items.image_N))
    assert_array_equal(plain.items.ids_NF, shuffled.items.ids_NF)


# -- what is refused


def _refused(folder, message, **settings):
    with pytest.raises(DataError, match=message):
        load(str(folder), **settings)


def _files():
    return [
        "items.npz",
        "items.parquet",
        "sizes-train.npy",
        "sizes-test.npy",
        str(DATASET_FOLDER / "dicm_log-train.array_record-00001-of-00004"),
        str(DATASET_FOLDER / "dicm_log-test.array_record-00000-of-00002"),
        str(DATASET_FOLDER / "dicm_log-validation.array_record-00000-of-00002"),
        str(DATASET_FOLDER / "dataset_info.json"),
        str(DATASET_FOLDER / "features.json"),
    ]


@pytest.mark.parametrize("name", _files())
def test_a_damaged_file(folder, name):
    path = folder / name
    octets = path.read_bytes()
    for place in (0, len(octets) // 2, len(octets) - 1):
        path.write_bytes(
            octets[:place] + bytes([octets[place] ^ 1 << place % 8]) + octets[place + 1 :]
        )
        _refused(folder, rf"{name}: damaged: \w+ is its CRC-32, \w+ is recorded; bring this file")
    for verify in (True, False):
        path.write_bytes(octets[:-3])
        found = rf"{len(octets) - 3} bytes found, {len(octets)} are recorded; bring this file back"
        _refused(folder, f"{name}: {found}", verify=verify)
        path.write_bytes(octets + b"x")
        _refused(folder, f"{len(octets) + 1} bytes found", verify=verify)
    path.unlink()
    for verify in (True, False):
        _refused(folder, f"{name}: file of a prepared set cannot be opened .No such", verify=verify)


def test_a_damaged_record_of_the_set(folder):
    path = folder / "prepared.json"
    octets = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(octets), 40).tolist():
        path.write_bytes(
            octets[:place] + bytes([octets[place] ^ 1 << place % 7]) + octets[place + 1 :]
        )
        _refused(folder, r"prepared.json: (altered since|not the metadata of|format)")
    for length in (0, 1, 100, len(octets) - 1):
        path.write_bytes(octets[:length])
        _refused(folder, r"prepared.json: (altered since|not the metadata of)")
    path.unlink()
    _refused(folder, "not a prepared set: no prepared.json in it; give the folder that a prepared")
    _refused(folder / "nowhere", "not a prepared set: no such folder; give the folder")


def test_a_set_of_a_later_version(folder, monkeypatch):
    monkeypatch.setattr(manifest, "_VERSION", 7)
    manifest.save(dataclasses.replace(manifest.load(folder)), folder)
    monkeypatch.undo()
    _refused(folder, "version 7 of the format; .* install a later one, or write prepared set again")


def test_a_set_without_a_split(folder):
    prepared = manifest.load(folder)
    splits = {"train": prepared.splits["train"]}
    manifest.save(dataclasses.replace(prepared, splits=splits), folder)
    _refused(folder, "the prepared set has no test split, only train: prepare it with cuts")


def test_records_that_are_damaged_behind_the_back(folder):
    """Where checksums of files are not compared, those of array_record still are."""
    path = folder / DATASET_FOLDER / "dicm_log-train.array_record-00000-of-00004"
    octets = bytearray(path.read_bytes())
    used = np.flatnonzero(np.frombuffer(octets, np.uint8))
    data = used[(used > 1_000) & (used < used[-1] - 2_000)]
    for place in np.random.default_rng(0).choice(data, 5, replace=False).tolist():
        octets[place] ^= 16
    path.write_bytes(octets)
    message = r"dicm_log.1.0.0: record \d+ of split 'train' cannot be read \(.*\); bring the file"
    _refused(folder, message, verify=False)
    streamed = load(str(folder), verify=False, read_train=streamed_split)
    with pytest.raises(DataError, match=message):
        joined([streamed.train.read(block) for block in range(streamed.train.n_blocks)])


# -- feature tables


def test_feature_tables_that_were_moved(folder, tmp_path):
    shutil.move(folder / "features", tmp_path / "elsewhere")
    _refused(folder, "image: not a feature table: no such folder; .* in data.feature_tables")
    log = load(str(folder), features_path=str(tmp_path / "elsewhere"))
    assert _stored(log).folder == tmp_path / "elsewhere" / "image"
    config = DataConfig(
        kind="prepared", path=str(folder), feature_tables=str(tmp_path / "elsewhere")
    )
    assert read_log(config).features.count == small_world.IMAGES


def test_another_feature_table(folder, tmp_path):
    log = _log()
    other = dataclasses.replace(log, features=Features(_rows(log) + 1))
    _write(other, tmp_path / "other")
    place = tmp_path / "other" / "features"
    _refused(
        folder,
        "image: not the table that .*set was prepared with: it is standardised differently; name"
        " that table's folder in data.feature_tables, or prepare the set again",
        features_path=str(place),
    )


def test_a_part_of_the_feature_table(folder):
    prepared = manifest.load(folder)
    record = prepared.features["image"]
    more = {"image": dataclasses.replace(record, rows=record.rows + 1)}
    manifest.save(dataclasses.replace(prepared, features=more), folder)
    _refused(folder, "image: 2300 rows; .* was prepared with 2301: name the whole table's folder")


def test_a_set_and_its_table_may_move_together(original, tmp_path):
    shutil.copytree(original.parent, tmp_path / "new")
    log = load(str(tmp_path / "new" / "set"))
    assert _stored(log).folder.resolve().is_relative_to(tmp_path / "new")


# -- what cannot be written


def test_the_folder_must_be_free(original, tmp_path):
    with pytest.raises(DataError, match="already holds a prepared set; name another --output"):
        _write(_log(), original)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        _write(_log(), tmp_path / "mine")


def test_an_interrupted_writing_leaves_no_set(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "save", _no_room)
        with pytest.raises(DataError, match=r"the set cannot be written .*see to room on the disk"):
            _write(_log(), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    _refused(tmp_path / "set", "its preparation is not finished, .*run the same")
    _write(_log(), tmp_path / "set")
    assert load(str(tmp_path / "set")).train.n_groups == 100


def _no_room(*arguments):
    raise OSError(28, "No space left on device")


def test_other_content_is_refused_not_left_out(tmp_path):
    with pytest.raises(DataError, match="has text beside its images, which a prepared set cannot"):
        _write(small_world.log_with_texts(), tmp_path / "set")


def test_a_streamed_log_cannot_be_written(original, tmp_path):
    streamed = load(str(original), read_train=streamed_split)
    with pytest.raises(DataError, match=r"is streamed from .*set data.stream=false"):
        _write(streamed, tmp_path / "set")


def test_a_prepared_log_can_be_written_in_other_blocks(original, tmp_path):
    """With its feature table where it is."""
    log = load(str(original))
    _write(log, tmp_path / "set", block_groups=64, shard_groups=1000)
    again = load(str(tmp_path / "set"))
    _assert_same(again.train, log.train)
    assert _stored(again).folder.resolve() == _stored(log).folder.resolve()
    assert json.loads((tmp_path / "set" / "prepared.json").read_text())["block_groups"] == 64


def test_blocks_joined_are_the_split(original):
    streamed = load(str(original), read_train=streamed_split).train
    blocks = [streamed.read(number) for number in range(streamed.n_blocks)]
    _assert_same(joined(blocks), load(str(original)).train)
    assert [len(streamed.sizes(number)) for number in range(streamed.n_blocks)] == [
        block.n_groups for block in blocks
    ]
