"""The FuxiCTR reader against a plain reading of the files, row by row, in every format."""

import collections
import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicm_jax.data.fuxictr import reader as fuxictr
from dicm_jax.data.fuxictr.config import FuxiCTRConfig
from dicm_jax.data.schema import NO_IMAGE, ClickLog, in_memory
from dicm_jax.data.validate import validate
from tests.data import fuxictr_set

RAW = pytest.mark.parametrize("suffix", [".csv", ".parquet"])
ENCODED = pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])


def _equal(one, other, *but):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name not in but and a is not None:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def _image(log: ClickLog, items: np.ndarray) -> list[bytes | None]:
    """The content row of each item, which tells the items of the tests apart."""
    keys = log.items.image_N[items]
    return [
        None if key == NO_IMAGE else in_memory(log.features).rows_VD[key].tobytes() for key in keys
    ]


def _row(number: int) -> bytes | None:
    row_D = fuxictr_set.content_rows()[number].astype(np.float32)
    return None if number == 0 else row_D.tobytes()


def _number(text: str) -> int:
    return int(text[1:])


def _column(log: ClickLog, level, name: str) -> int:
    return [field.name for field in log.fields_of(level)].index(name)


def _plain(split: str, known, behaviors: int):
    """The impressions of a split, each with everything that the model is told."""
    return collections.Counter(
        (
            tuple(
                known[name].get(str(row[name]), len(known[name]) - 1) for name in ("user_id", "age")
            ),
            tuple(_row(_number(text)) for text in row["item_history"][-behaviors:]),
            _row(_number(row["item_id"])),
            tuple(
                known[name].get(row[name], len(known[name]) - 1) for name in ("item_id", "cate_id")
            ),
            known["pid"].get(row["pid"], len(known["pid"]) - 1),
            row["price"] is None,
            row["label"],
        )
        for row in fuxictr_set.rows(split)
    )


def _read(log: ClickLog, split_name: str):
    """The impressions of a log in the form of `_plain`."""
    split = log.split(split_name)
    pid, price = (_column(log, "context", name) for name in ("pid", "price"))
    group_B = np.repeat(np.arange(split.n_groups), np.diff(split.impression_offsets))
    images = _image(log, split.item_B)
    read = []
    for at, group in enumerate(group_B):
        own = slice(*split.behavior_offsets[group : group + 2])
        read.append(
            (
                tuple(split.user_ids_GF[group].tolist()),
                tuple(_image(log, split.behavior_item_H[own])),
                images[at],
                tuple(log.items.ids_NF[split.item_B[at]].tolist()),
                int(split.context_ids_BF[at, pid]),
                bool(split.context_ids_BF[at, price] == 0),
                int(split.click_B[at]),
            )
        )
    return collections.Counter(read)


@pytest.fixture(name="known")
def _known():
    """FuxiCTR's vocabularies with ties broken as here: by falling count, then by text."""
    known = {}
    for name, vocabulary in fuxictr_set.vocabularies().items():
        counts = collections.Counter()
        for row in fuxictr_set.rows("train"):
            counts[str(row[name])] += 1
            for sequence, shared in fuxictr_set.SEQUENCES.items():
                # The skipped items have no place in the log, and so none in its vocabulary.
                if shared == name and sequence != "skipped":
                    counts.update(row[sequence])
        texts = sorted(counts, key=lambda text: (-counts[text], text))
        assert set(texts) <= set(vocabulary)
        known[name] = (
            {"": 0} | {text: at for at, text in enumerate(texts, 1)} | {"?": 1 + len(texts)}
        )
    return known


@RAW
@pytest.mark.parametrize("split", ["train", "test"])
def test_raw_rows_equal_a_plain_reading(tmp_path, suffix, split, known):
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path, suffix)), behaviors=5)
    validate(log)
    assert _read(log, split) == _plain(split, known, behaviors=5)
    assert log.notes[f"{split}_older_behaviors_left_out"] > 0


@ENCODED
@pytest.mark.parametrize("split", ["train", "test"])
def test_encoded_rows_are_those_of_the_raw_files(tmp_path, suffix, split):
    log = fuxictr.load(str(fuxictr_set.write_encoded(tmp_path, suffix)), behaviors=5)
    validate(log)
    known = fuxictr_set.vocabularies()
    plain = _plain(split, known, behaviors=5)
    seen = {_row(_number(text)) for text in known["item_id"] if text.startswith("B")}
    expected = collections.Counter()
    for (user, history, image, ids, *rest), count in plain.items():
        unknown = ids[0] == len(known["item_id"]) - 1  # all unknown items are one, without a photo
        expected[
            user,
            tuple(one if one in seen else None for one in history),
            None if unknown else image,
            (ids[0], len(known["cate_id"]) - 1) if unknown else ids,
            *rest,
        ] += count
    assert _read(log, split) == expected


def test_fields_have_the_levels_of_their_source(tmp_path):
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path)))
    levels = {
        level: [f.name for f in log.fields_of(level)] for level in ("user", "item", "context")
    }
    assert levels == {
        "user": ["user_id", "age"],
        "item": ["item_id", "cate_id"],
        "context": ["pid", "price"],
    }
    assert [(field.name, field.vocabulary) for field in log.fields_of("behavior")] == [
        ("item_history", "item_id"),
        ("cate_history", "cate_id"),
    ]
    assert log.notes["column_left_out_skipped"] == 1
    assert "column_left_out_hour" not in log.notes, "an inactive column was never asked for"


def test_without_sources_a_shared_column_is_of_the_item_and_the_rest_of_the_impression(tmp_path):
    columns = [
        {k: v for k, v in spec.items() if k != "source"} for spec in fuxictr_set.FEATURE_COLS
    ]
    columns[0]["type"] = "meta"
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path, feature_cols=columns)))
    validate(log)
    assert [field.name for field in log.fields_of("item")] == ["item_id", "cate_id"]
    assert [field.name for field in log.fields_of("context")] == ["age", "pid", "price"]
    assert len(np.unique(log.test.user_G)) == len({r["user_id"] for r in fuxictr_set.rows("test")})


def test_levels_may_be_said_in_the_configuration(tmp_path):
    fuxictr_set.write_raw(tmp_path)
    config = FuxiCTRConfig(context_fields=("age",), ignore=("pid",), user="user_id")
    log = fuxictr.load(str(tmp_path), config=config)
    assert [field.name for field in log.fields_of("context")] == ["age", "price"]
    assert log.notes["column_left_out_pid"] == 1


def test_groups_share_user_fields_and_behaviors_and_keep_the_order_of_the_file(tmp_path):
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path)), behaviors=5)
    rows = fuxictr_set.rows("train")
    firsts = dict.fromkeys((row["user_id"], tuple(row["item_history"][-5:])) for row in rows)
    assert log.train.n_groups == len(firsts) < len(rows)
    assert np.diff(log.train.behavior_offsets).tolist() == [len(history) for _, history in firsts]
    shown = collections.defaultdict(list)
    for row in rows:
        shown[row["user_id"], tuple(row["item_history"][-5:])].append(_row(_number(row["item_id"])))
    assert _image(log, log.train.item_B) == [image for key in firsts for image in shown[key]]


def test_a_user_field_that_changes_parts_groups(tmp_path):
    fuxictr_set.write_raw(tmp_path)
    rows = fuxictr_set.rows("train")
    for at, row in enumerate(rows):
        row["age"] = str(at % 3)
    fuxictr_set.write_split(tmp_path, "train", rows, ".csv")
    log = fuxictr.load(str(tmp_path))
    parts = {(row["user_id"], row["age"], tuple(row["item_history"])) for row in rows}
    assert log.train.n_groups == len(parts)
    ages_B = log.train.user_ids_GF[:, _column(log, "user", "age")]
    counts = np.bincount(np.repeat(ages_B, np.diff(log.train.impression_offsets)))
    assert sorted(counts[1:4]) == sorted(collections.Counter(r["age"] for r in rows).values())


def test_newest_first_turns_sequences_around(tmp_path):
    fuxictr_set.write_raw(tmp_path)
    one = fuxictr.load(str(tmp_path), behaviors=4)
    for split in ("train", "test"):
        turned = fuxictr_set.rows(split)
        for row in turned:
            row["item_history"].reverse()
            row["cate_history"].reverse()
        fuxictr_set.write_split(tmp_path, split, turned, ".csv")
    other = fuxictr.load(str(tmp_path), behaviors=4, config=FuxiCTRConfig(newest="first"))
    _equal(one.train, other.train)
    _equal(one.test, other.test)


def test_parquet_in_parts_is_the_whole(tmp_path):
    whole = fuxictr.load(str(fuxictr_set.write_encoded(tmp_path)))
    table = pq.read_table(tmp_path / "train.parquet")
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train").mkdir()
    for part in range(3):
        piece = table.slice(40 * part, 40 if part < 2 else None)
        pq.write_table(piece, tmp_path / "train" / f"part_{part:05d}.parquet")
    _equal(whole.train, fuxictr.load(str(tmp_path)).train)


def test_nothing_of_train_depends_on_the_test_file(tmp_path):
    """Other labels, prices, items and categories in the test file: train and its keys stay."""
    before = fuxictr.load(str(fuxictr_set.write_raw(tmp_path)))
    changed = fuxictr_set.rows("test", seed=1)
    for row in changed:
        row |= {"price": 1000.0, "pid": "new", "label": 1 - row["label"], "age": "99"}
    fuxictr_set.write_split(tmp_path, "test", changed, ".csv")
    after = fuxictr.load(str(tmp_path))
    _equal(before.train, after.train, "item_B", "behavior_item_H")
    assert before.vocabulary_sizes == after.vocabulary_sizes
    assert _read(before, "train") == _read(after, "train")
    assert _read(before, "test") != _read(after, "test")


def test_price_is_cut_at_quantiles_of_train(tmp_path):
    fuxictr_set.write_raw(tmp_path)
    log = fuxictr.load(str(tmp_path), config=FuxiCTRConfig(numeric_buckets=4))
    buckets_B = log.train.context_ids_BF[:, _column(log, "context", "price")]
    shares = np.bincount(buckets_B[buckets_B > 0])[1:] / (buckets_B > 0).sum()
    np.testing.assert_allclose(shares, 0.25, atol=0.05)
    prices = [row["price"] for row in fuxictr_set.rows("train")]
    assert (buckets_B == 0).sum() == prices.count(None)
    assert log.vocabulary_sizes["price"] == 5


def test_rare_texts_are_unknown(tmp_path):
    fuxictr_set.write_raw(tmp_path, min_categr_count=20)
    log = fuxictr.load(str(tmp_path))
    counts = collections.Counter(row["item_id"] for row in fuxictr_set.rows("train"))
    in_history = collections.Counter(
        text for row in fuxictr_set.rows("train") for text in row["item_history"]
    )
    often = {text for text in counts | in_history if counts[text] >= 20 or in_history[text] >= 20}
    assert log.vocabulary_sizes["item_id"] == len(often) + 2
    assert 0 < len(often) < len(counts | in_history)


def test_items_keep_their_photo_where_their_id_is_unknown(tmp_path):
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path)))
    unknown = log.vocabulary_sizes["item_id"] - 1
    new_B = log.items.ids_NF[log.test.item_B, 0] == unknown
    assert new_B.any()
    assert len(set(_image(log, log.test.item_B[new_B]))) > 3
    np.testing.assert_array_equal(log.test.cold_B, new_B)


def test_content_keyed_by_the_keys_of_an_encoded_set(tmp_path):
    fuxictr_set.write_encoded(tmp_path)
    (tmp_path / "feature_vocab.json").unlink()
    size = len(fuxictr_set.vocabularies()["item_id"])
    rows = np.arange(3.0 * size, dtype=np.float32).reshape(size, 3)
    (tmp_path / "item_visual_emb.npz").unlink()
    np.savez(tmp_path / "photos.npz", item_id=np.arange(size)[::-1], rows=rows[::-1])
    table = pa.table({"key": np.arange(size), "value": list(rows)})
    pq.write_table(table, tmp_path / "photos.parquet")
    np.save(tmp_path / "photos.npy", rows)
    for file in ("photos.npz", "photos.parquet", "photos.npy"):
        log = fuxictr.load(str(tmp_path), config=FuxiCTRConfig(content=file))
        np.testing.assert_array_equal(
            in_memory(log.features).rows_VD[log.items.image_N], rows, file
        )


def test_valid_is_used_only_where_it_is_named(tmp_path):
    fuxictr_set.write_raw(tmp_path)
    fuxictr_set.write_split(tmp_path, "valid", fuxictr_set.rows("train", seed=5), ".csv")
    log = fuxictr.load(str(tmp_path))
    assert log.notes["file_not_used_valid.csv"] == 1
    valid = fuxictr.load(str(tmp_path), config=FuxiCTRConfig(test_file="valid.csv"))
    assert "file_not_used_valid.csv" not in valid.notes
    assert valid.test.n_impressions == len(fuxictr_set.rows("train", seed=5))


def test_shuffled_content_leaves_everything_else(tmp_path):
    log = fuxictr.load(str(fuxictr_set.write_raw(tmp_path)))
    shuffled = fuxictr.load(str(tmp_path), permute_images=True, seed=3)
    assert not np.array_equal(log.items.image_N, shuffled.items.image_N)
    _equal(log.train, shuffled.train)


def test_copies_that_stand_for_content_are_no_fields(tmp_path):
    """As in KuaiVideo's configuration: the group, and copies of columns with a pretrained array."""
    copies = [
        {"name": "group_id", "type": "meta", "preprocess": "copy_from(user_id)"},
        {"name": "item_emb", "type": "categorical", "preprocess": "copy_from(item_id)"},
        {
            "name": "item_history_emb",
            "type": "sequence",
            "preprocess": "copy_from(item_history)",
            "share_embedding": "item_emb",
        },
    ]
    copies[1]["pretrained_emb"] = copies[2]["pretrained_emb"] = "item_visual_emb.npz"
    fuxictr_set.write_raw(tmp_path / "with", feature_cols=[*copies, *fuxictr_set.FEATURE_COLS])
    log = fuxictr.load(str(tmp_path / "with"), config=FuxiCTRConfig(history="item_history"))
    plain = fuxictr.load(str(fuxictr_set.write_raw(tmp_path / "without")))
    assert log.fields == plain.fields
    _equal(log.train, plain.train)
    for name in ("item_emb", "item_history_emb"):
        assert log.notes[f"column_left_out_{name}"] == 1


def test_users_that_the_files_do_not_tell_apart_are_counted(tmp_path):
    """An encoded set gives all users that train lacks one key; a raw one names them."""
    known = {row["user_id"] for row in fuxictr_set.rows("train")}
    unknown = sum(row["user_id"] not in known for row in fuxictr_set.rows("test"))
    encoded = fuxictr.load(str(fuxictr_set.write_encoded(tmp_path / "encoded")))
    assert encoded.notes["test_rows_of_nameless_users"] == unknown > 0
    assert encoded.notes["train_rows_of_nameless_users"] == 0
    folder = fuxictr_set.write_raw(tmp_path / "raw")
    assert fuxictr.load(str(folder)).notes["test_rows_of_nameless_users"] == 0
    test = [row | {"user_id": ""} for row in fuxictr_set.rows("test")]
    fuxictr_set.write_split(folder, "test", test[:7] + fuxictr_set.rows("test")[7:], ".csv")
    assert fuxictr.load(str(folder)).notes["test_rows_of_nameless_users"] == 7
