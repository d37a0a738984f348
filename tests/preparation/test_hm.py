"""The H&M log through the preparation against its reader, which takes another way."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from dicm_jax.ams import feature_table
from dicm_jax.data.hm import reader as hm
from dicm_jax.features.keyed_table import write_keyed_table
from dicm_jax.prepare import prepare
from dicm_jax.train import train
from tests.data import hm_set
from tests.preparation import made

ROOT = Path(__file__).parents[2]


def _prepared(hm_folder, place, *overrides):
    """The set, of a feature table made of the array beside the log."""
    (array,) = hm_folder.glob("image_features_*.npz")
    with np.load(array) as arrays:
        rows_ND, scale_N, ids = arrays["rows"], arrays["scale"], arrays["article_id"]
    stats = feature_table.statistics(rows_ND, scale_N)
    write_keyed_table(
        place / "features",
        "image",
        rows_ND,
        scale_N,
        pa.array(ids),
        stats=stats,
        storage="int8",
        encoder="of the log",
        about={},
    )
    settings = [
        f"impressions.path={hm_folder / 'impressions.parquet'}",
        f"behaviors.path={hm_folder / 'transactions_train.csv'}",
        f"catalogue.path={hm_folder / 'articles.csv'}",
        f"features={place / 'features'}",
        *overrides,
    ]
    config = str(ROOT / "configs/prepare/hm.py")
    assert prepare(config, place / "set", settings, "local", []) == 0
    return place / "set"


def _assert_alike(found, expected):
    for name in ("train", "test"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        for field in dataclasses.fields(theirs):
            if field.name != "time_G":  # which the reader does not keep
                mine, other = getattr(ours, field.name), getattr(theirs, field.name)
                assert (mine is None) == (other is None)
                if other is not None:
                    assert mine.dtype == other.dtype
                    assert_array_equal(mine, other, err_msg=f"{name}.{field.name}")
    assert_array_equal(found.items.ids_NF, expected.items.ids_NF)
    assert_array_equal(found.items.image_N, expected.items.image_N)
    sizes = [
        [log.vocabulary_sizes[field.vocabulary] for field in log.fields]
        for log in (found, expected)
    ]
    assert sizes[0] == sizes[1]
    assert [field.level for field in found.fields] == [field.level for field in expected.fields]


def test_a_small_set_in_the_layout_is_what_its_reader_makes_of_it(tmp_path):
    """Repeated purchases, articles in two orders, shuffled impressions."""
    folder = hm_set.write_set(tmp_path, impressions=True)
    place = _prepared(folder, tmp_path, f"split.test_from={hm_set.CUT}", "policy.now=2022-01-01")
    _assert_alike(made.read(place), hm.load(str(folder), cut=hm_set.CUT))


@pytest.fixture(name="prepared_hm", scope="module")
def _prepared_hm(hm_folder, tmp_path_factory):
    return _prepared(hm_folder, tmp_path_factory.mktemp("hm"))


def test_the_real_set_is_what_its_reader_makes_of_it(hm_folder, prepared_hm):
    log = made.read(prepared_hm)
    assert (log.train.n_impressions, log.test.n_impressions) == (114_020, 28_560)
    _assert_alike(log, hm.load(str(hm_folder)))


def test_the_real_set_trains_alike_from_either(hm_folder, prepared_hm, tmp_path):
    short = [
        "train.steps=3",
        "train.log_every=1",
        "train.batch_size=256",
        "model.compressor_init=he",
        "model.compressor_widths=16,8,12",
        "model.attention_widths=8,4",
        "model.head_widths=16,8",
        "model.query_fields=product_type",
        "train.baseline=false",
        "evaluate.batch_size=4096",
    ]
    ways = {
        "direct": ["data.kind=hm", f"data.path={hm_folder}"],
        "prepared": ["data.kind=prepared", f"data.path={prepared_hm}"],
    }
    found = {}
    for name, settings in ways.items():
        assert train(str(ROOT / "configs/dicm.py"), tmp_path / name, [*short, *settings]) == 0
        text = (tmp_path / name / "metrics.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        result = json.loads((tmp_path / name / "result.json").read_text())
        scores = [result[score] for score in ("gauc", "auc", "logloss")]
        found[name] = [line["loss"] for line in lines if line["kind"] == "train"], scores
    assert len(found["direct"][0]) == 3
    assert found["prepared"] == found["direct"]
