"""What a user reads when a file of a FuxiCTR set is missing, broken or does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dicm_jax.config import Config, DataConfig
from dicm_jax.data.fuxictr import reader as fuxictr
from dicm_jax.data.fuxictr.config import FuxiCTRConfig
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.train import train
from tests.data import fuxictr_set

ROOT = Path(__file__).parents[2]
HISTORY = {"type": "sequence", "source": "", "vocab_size": 10, "max_len": 8}


@pytest.fixture(name="raw")
def _raw(tmp_path):
    return fuxictr_set.write_raw(tmp_path)


@pytest.fixture(name="encoded")
def _encoded(tmp_path):
    return fuxictr_set.write_encoded(tmp_path)


def _fails(folder: Path, match: str, **settings: Any):
    with pytest.raises(DataError, match=match):
        fuxictr.load(str(folder), config=FuxiCTRConfig(**settings))


def _change_rows(folder: Path, split: str = "train", **changes: Any):
    """Other values in row 5 of the CSV of a split."""
    rows = fuxictr_set.rows(split)
    rows[5] |= changes
    fuxictr_set.write_split(folder, split, rows, ".csv")


def _change_keys(folder: Path, **changes: Any):
    """Other keys in row 5 of the encoded train file."""
    rows = fuxictr_set.encode(fuxictr_set.rows("train"))
    rows[5] |= changes
    fuxictr_set.write_split(folder, "train", rows, ".parquet")


# --- The feature map ------------------------------------------------------------------------------


def test_folder_that_is_not_there(tmp_path):
    _fails(tmp_path / "nowhere", r"nowhere: no such folder; give the folder that holds feature_map")


def test_neither_feature_map_nor_dataset_config(raw):
    (raw / "dataset_config.yaml").unlink()
    _fails(raw, r"neither feature_map.json \(encoded\) nor dataset_config.yaml \(raw\) found among")


def test_feature_map_that_is_not_json(encoded):
    (encoded / "feature_map.json").write_text("{'dataset_id': ")
    _fails(encoded, r"feature_map.json: not JSON \(.*line 1 column 2.*\); write it again")


@pytest.mark.parametrize("key", ["features", "labels"])
def test_feature_map_that_lacks_a_key(encoded, key):
    tree = fuxictr_set.feature_map()
    del tree[key]
    (encoded / "feature_map.json").write_text(json.dumps(tree))
    _fails(encoded, rf"the feature map has no '{key}'; found \['dataset_id', ")


@pytest.mark.parametrize("key", ["type", "vocab_size"])
def test_feature_that_lacks_a_key(tmp_path, key):
    spec = {"type": "categorical", "source": "item", "vocab_size": 9}
    del spec[key]
    fuxictr_set.write_encoded(tmp_path, cate_id=spec)
    _fails(tmp_path, rf"feature 'cate_id' has no '{key}'; found \[.*'source'.*\]; add it")


def test_unknown_type_of_a_column(tmp_path):
    fuxictr_set.write_encoded(tmp_path, price={"type": "embedding", "pretrain_dim": 96})
    _fails(tmp_path, r"'price' is of type 'embedding'; known types are categorical, sequence, nume")


def test_unknown_source_of_a_column(tmp_path):
    fuxictr_set.write_encoded(tmp_path, price={"type": "numeric", "source": "shop"})
    _fails(tmp_path, r"'price' has source 'shop'; known are user, item and context: say its level")


def test_shared_embedding_of_no_column(tmp_path):
    fuxictr_set.write_encoded(tmp_path, item_history=HISTORY | {"share_embedding": "sku"})
    _fails(tmp_path, r"'item_history' shares the embedding of 'sku', which is not listed")


def test_shared_embedding_of_another_size(tmp_path):
    fuxictr_set.write_encoded(tmp_path, item_history=HISTORY | {"share_embedding": "item_id"})
    _fails(tmp_path, r"'item_history' has vocab_size 10, but shares .*'item_id', which has 32")


def test_feature_map_that_names_a_column_the_file_lacks(tmp_path):
    spec = {"type": "categorical", "source": "item", "vocab_size": 4}
    fuxictr_set.write_encoded(tmp_path, brand=spec)
    _fails(
        tmp_path, r"train.parquet: no column 'brand', which the feature map names; columns found"
    )
    assert fuxictr.load(str(tmp_path), config=FuxiCTRConfig(ignore=("brand",)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"preprocess": "convert_hour"},
            r"'pid' has preprocess='convert_hour', which is not known",
        ),
        ({"category_processor": "hash_bucket"}, r"'pid' has category_processor='hash_bucket'"),
        ({"type": "text"}, r"'pid' is of type 'text'; known types are"),
    ],
)
def test_dataset_config_with_a_preparation_that_is_not_known(tmp_path, change, match):
    columns = [dict(spec) for spec in fuxictr_set.FEATURE_COLS]
    columns[3] |= change
    fuxictr_set.write_raw(tmp_path, feature_cols=columns)
    _fails(tmp_path, match)


def test_copies_of_a_column_are_read_from_it(tmp_path):
    copy = {"name": "again", "type": "categorical", "preprocess": "copy_from(pid)"}
    log = fuxictr.load(
        str(fuxictr_set.write_raw(tmp_path, feature_cols=[*fuxictr_set.FEATURE_COLS, copy]))
    )
    names = [field.name for field in log.fields_of("context")]
    ids_BF = log.train.context_ids_BF
    np.testing.assert_array_equal(ids_BF[:, names.index("pid")], ids_BF[:, names.index("again")])


def test_dataset_config_that_is_broken(raw):
    path = raw / "dataset_config.yaml"
    tiny = yaml.safe_load(path.read_text())["tiny"]
    path.write_text(yaml.safe_dump({"one": tiny, "two": tiny}))
    _fails(raw, r"2 datasets, \['one', 'two'\]; choose one with data.fuxictr.dataset")
    assert fuxictr.load(str(raw), config=FuxiCTRConfig(dataset="two"))
    _fails(raw, r"the file has no 'three'; found \['one', 'two'\]", dataset="three")
    path.write_text(yaml.safe_dump({"one": {"feature_cols": []}}))
    _fails(raw, r"dataset 'one' has no 'label_col'; found \['feature_cols'\]")
    path.write_text("tiny: [")
    _fails(raw, r"dataset_config.yaml: not YAML \(")
    path.write_text("")
    _fails(raw, r"no dataset in it; it must map a dataset's name to its settings")


# --- The roles of columns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"user": "nobody"}, r"data.fuxictr.user names 'nobody', which is not listed; features"),
        ({"user": "price"}, r"the user is to be 'price', which is numeric; it must be categorical"),
        ({"item": "item_history"}, r"the item is to be 'item_history', which is sequence; it must"),
        ({"item": "pid"}, r"history 'item_history' shares the embedding of 'item_id', not of the"),
        (
            {"history": "pid"},
            r"the history is to be 'pid', which is categorical; it must be sequence",
        ),
        ({"label": "clk"}, r"data.fuxictr.label names 'clk'; labels are \['label'\]"),
        ({"ignore": ("prize",)}, r"data.fuxictr.ignore names 'prize', which is not listed"),
        ({"ignore": ("item_id",)}, r"the item is to be 'item_id', which is ignored"),
        (
            {"user_fields": ("pid",), "item_fields": ("pid",)},
            r"\['pid'\] stand in two of user_fields, item_fields and context_fields",
        ),
        (
            {"ignore": ("item_history", "cate_history", "skipped")},
            r"no sequence shares an embedding, so none is known .*: give one share_embedding",
        ),
        (
            {"ignore": ("user_id", "age")},
            r"which column is the user is not said: no group_id, meta",
        ),
    ],
)
def test_role_that_no_column_can_have(raw, settings, match):
    _fails(raw, match, **settings)


def test_several_labels(tmp_path):
    labels = [{"name": "label", "dtype": "float"}, {"name": "like", "dtype": "float"}]
    fuxictr_set.write_raw(tmp_path, label_col=labels)
    _fails(tmp_path, r"labels are \['label', 'like'\]; choose one with data.fuxictr.label")
    assert fuxictr.load(str(tmp_path), config=FuxiCTRConfig(label="label"))


def test_item_with_two_values_of_a_field(raw):
    _change_rows(raw, cate_id="cat 5")
    _fails(raw, r"'cate_id' is to be a field of the item, but 1 items have several values, first")
    log = fuxictr.load(
        str(raw), config=FuxiCTRConfig(context_fields=("cate_id",), ignore=("cate_history",))
    )
    assert [field.name for field in log.fields_of("context")] == ["cate_id", "pid", "price"]


def test_sequence_that_does_not_run_along_the_history(raw):
    _change_rows(raw, item_history=["B00001"] * 3, cate_history=["cat 1"] * 2)
    _fails(raw, r"in row 5 'cate_history' has 2 values and the history 'item_history' has 3; it mu")


# --- The files of the splits ----------------------------------------------------------------------


def test_missing_split(raw):
    (raw / "test.csv").unlink()
    _fails(
        raw, r"0 of test.parquet, test.csv, test.npz or test/\*.parquet found among \['dataset_c"
    )
    _fails(raw, r"0 of valid.csv found among", test_file="valid.csv")


def test_split_in_two_formats(raw):
    fuxictr_set.write_split(raw, "train", fuxictr_set.rows("train"), ".parquet")
    _fails(raw, r"2 of train.parquet, .*; give one, or name it with data.fuxictr.train_file")


def test_line_with_too_few_parts(raw):
    lines = (raw / "train.csv").read_text().split("\n")
    lines[6] = lines[6].rsplit(",", 3)[0]
    (raw / "train.csv").write_text("\n".join(lines))
    _fails(raw, r"train.csv, line 7: 8 parts where the header has 11: '\d,")


def test_file_that_is_cut_short(encoded):
    path = encoded / "train.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    _fails(encoded, r"train.parquet: cannot be read \(.*\); it may be cut short")


def test_file_without_a_row(raw):
    header = (raw / "test.csv").read_text().split("\n")[0]
    (raw / "test.csv").write_text(header + "\n")
    _fails(raw, r"test.csv: no row in it; give the full file")


def test_folder_without_a_part(encoded):
    (encoded / "test.parquet").unlink()
    (encoded / "test").mkdir()
    _fails(encoded, r"test: no .parquet file in it; give the parts of the split")


@pytest.mark.parametrize(("key", "wrong"), [(32, 32), (-1, -1)])
def test_key_outside_its_vocabulary(encoded, key, wrong):
    _change_keys(encoded, item_id=key)
    _fails(
        encoded, rf"column 'item_id' has key {wrong} at 5, but vocab_size 32; keys lie in \[0, 32"
    )


def test_key_of_a_sequence_outside_its_vocabulary(encoded):
    _change_keys(encoded, item_history=[0] * 7 + [99])
    _fails(encoded, r"column 'item_history' has key 99 at 47, but vocab_size 32")


def test_padding_as_an_item(encoded):
    _change_keys(encoded, item_id=0)
    _fails(encoded, r"row 5 has the padding key 0 as its item_id; every row must name its item")


def test_key_that_is_none(encoded):
    _change_keys(encoded, pid=None)
    _fails(encoded, r"column 'pid' is empty at 5; fill in a key")
    table = pq.read_table(encoded / "train.parquet")
    texts = pa.array(["red"] * len(table))
    pq.write_table(
        table.set_column(table.column_names.index("pid"), "pid", texts), encoded / "t.parquet"
    )
    _fails(encoded, r"column 'pid' holds something that is not a key \(", train_file="t.parquet")


def test_row_without_an_item(raw):
    _change_rows(raw, item_id="")
    _fails(raw, r"train.csv: no item_id in row 5; every row must name its item")


def test_number_that_is_none(raw):
    _change_rows(raw, price="cheap")
    _fails(
        raw, r"numeric column 'price' holds something that is no number \(.*cheap.*\); repair it"
    )


@pytest.mark.parametrize(("label", "match"), [(2, "first '2' in row 5"), ("yes", "not a number")])
def test_label_that_is_none(raw, label, match):
    _change_rows(raw, label=label)
    _fails(raw, rf"label 'label'.* {match}")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", [0, 1])
def test_split_of_one_label(raw, split, label):
    rows = [row | {"label": label} for row in fuxictr_set.rows(split)]
    fuxictr_set.write_split(raw, split, rows, ".csv")
    _fails(raw, rf"{split}.csv: {label * len(rows)} of {len(rows)} rows are clicks; a split needs")


# --- The content rows -----------------------------------------------------------------------------


def test_content_that_is_missing_or_one_of_several(raw):
    np.save(raw / "other.npy", np.zeros((3, 2)))
    _fails(
        raw, r"2 feature arrays .* found, \['item_visual_emb.npz', 'other.npy'\]; .*name the one"
    )
    _fails(raw, r"photos.npz: no such file; found", content="photos.npz")
    _fails(raw, r"emb.h5: a feature array is one of .*numpy.savez\(FILE, key=", content="emb.h5")
    _fails(
        raw, r"other.npy: its rows say no item_id, and the items have no order", content="other.npy"
    )


def test_encoded_files_are_not_taken_for_content(tmp_path):
    fuxictr_set.write_encoded(tmp_path, ".npz")
    (tmp_path / "item_visual_emb.npz").unlink()
    _fails(tmp_path, r"0 feature arrays")


def test_content_of_two_rows_for_one_item(raw):
    keys = np.array([fuxictr_set.item(max(2, number)) for number in range(1, fuxictr_set.ITEMS)])
    fuxictr_set.write_content(raw, key=keys)
    _fails(raw, r"item_visual_emb.npz: 1 of 39 rows repeat an item_id; keep one row for each")


def test_content_that_is_not_finite(raw):
    rows = fuxictr_set.content_rows()[1:]
    rows[4, 0] = np.nan
    fuxictr_set.write_content(raw, value=rows)
    _fails(raw, r"NaN or infinity in rows, first at item 'B\d+' \(row 4\); make that row again")


def test_content_with_rows_of_two_widths(raw):
    table = pa.table({"item_id": ["B00001", "B00002"], "rows": [[1.0, 2.0], [3.0]]})
    pq.write_table(table, raw / "photos.parquet")
    _fails(
        raw,
        r"row 1 has 1 values, row 0 has 2; every row must have the same",
        content="photos.parquet",
    )


def test_feature_vocabulary_without_the_item(encoded):
    (encoded / "feature_vocab.json").write_text('{"cate_id": {}}')
    _fails(encoded, r"feature_vocab.json: no vocabulary of 'item_id'; write it again")
    (encoded / "feature_vocab.json").write_text("[")
    _fails(encoded, r"feature_vocab.json: not JSON")


# --- The whole command ----------------------------------------------------------------------------


def test_days_of_validation_belong_to_another_reader():
    with pytest.raises(ConfigError, match=r"validation_days=3 with data.kind='fuxictr': .*share"):
        Config(data=DataConfig(kind="fuxictr", path="folder", validation_days=3))


def test_a_run_from_the_files_to_its_scores(tmp_path, capsys):
    folder = fuxictr_set.write_encoded(tmp_path / "set")
    overrides = [
        f"data.path={folder}",
        "data.behaviors=6",
        "data.fuxictr.numeric_buckets=4",
        "model.compressor_widths=5,4",
        "model.embedding_width=4",
        "model.attention_widths=4",
        "model.query_fields=cate_id",
        "model.head_widths=8",
        "train.batch_size=64",
        "train.epochs=1",
        "evaluate.batch_size=256",
    ]
    assert train(str(ROOT / "configs/fuxictr.py"), tmp_path / "run", overrides) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] > 0
    assert 0 < result["gauc"] < 1
    assert np.isfinite(result["logloss"])
    assert "column left out skipped: 1" in capsys.readouterr().out
