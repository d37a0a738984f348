"""`validate` accepts a sound log and names what is wrong with an unsound one."""

import dataclasses

import numpy as np
import pytest

from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    Features,
    GroupedImpressions,
    IdField,
    Items,
)
from dicm_jax.data.validate import validate
from dicm_jax.errors import DataError
from dicm_jax.features import non_finite


def _split() -> GroupedImpressions:
    return GroupedImpressions(
        user_G=np.array([3, 4], np.int32),
        user_ids_GF=np.array([[0], [1]], np.int32),
        behavior_offsets=np.array([0, 0, 2]),
        behavior_item_H=np.array([2, 1], np.int32),
        impression_offsets=np.array([0, 1, 3]),
        item_B=np.array([0, 1, 2], np.int32),
        context_ids_BF=np.array([[0], [4], [2]], np.int32),
        click_B=np.array([0, 1, 1], np.uint8),
        cold_B=np.array([False, False, False]),
    )


def _log() -> ClickLog:
    fields = (
        IdField("age", "age", "user"),
        IdField("image", "image", "item"),
        IdField("brand", "brand", "item"),
        IdField("sales", "sales", "context"),
        IdField("behavior_image", "image", "behavior"),
    )
    return ClickLog(
        name="tiny",
        fields=fields,
        vocabulary_sizes={"age": 2, "image": 3, "brand": 2, "sales": 5},
        items=Items(
            ids_NF=np.array([[0, 0], [1, 1], [2, 0]], np.int32),
            image_N=np.array([0, 1, NO_IMAGE], np.int32),
        ),
        features=Features(np.ones((2, 4), np.uint8), np.ones(2, np.float32)),
        train=_split(),
        test=_split(),
    )


def _with(part: str, **changes) -> ClickLog:
    log = _log()
    return dataclasses.replace(log, **{part: dataclasses.replace(getattr(log, part), **changes)})


def test_sound_log_passes():
    validate(_log())
    validate(_with("features", rows_VD=np.ones((2, 4), np.float32), scale_V=None))
    validate(_with("test", probability_B=np.array([0, 0.5, 1], np.float32)))
    validate(_with("test", cold_B=np.array([True, False, True])))


def _i32(*values):
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("part", "changes", "match"),
    [
        ("train", {"user_G": _i32(), "impression_offsets": np.array([0])}, "0 groups, 3 impr"),
        ("test", {"item_B": _i32()}, r"test: 2 groups, 0 impressions; a split must not be empty"),
        ("train", {"user_G": np.array([3, 4])}, r"user_G: int64 of shape \(2,\); must be int32"),
        ("train", {"item_B": _i32(0, 1, 3)}, r"train.item_B: 3 at 2; .* in \[0, 3\)"),
        ("train", {"item_B": _i32(0, -1, 2)}, r"item_B: -1 at 1; every value must lie in \[0, 3\)"),
        ("test", {"behavior_item_H": _i32(2, 7)}, r"test.behavior_item_H: 7 at 1"),
        ("train", {"user_ids_GF": _i32(0, 2)[:, None]}, r"field 'age': 2 at 1; .*\[0, 2\)"),
        ("train", {"user_ids_GF": _i32(0)[:, None]}, r"shape \(1, 1\); expected \(2, 1\).*'age'"),
        ("test", {"context_ids_BF": _i32(0, 5, 0)[:, None]}, r"field 'sales': 5 at 1"),
        ("test", {"context_ids_BF": np.zeros((3, 2), np.int32)}, r"\(3, 2\); expected \(3, 1\)"),
        ("train", {"behavior_offsets": np.array([0, 3, 2])}, "falls from 3 to 2 at group 1"),
        ("train", {"behavior_offsets": np.array([1, 1, 2])}, "runs from 1 to 2; .* from 0 to 2"),
        ("train", {"impression_offsets": np.array([0, 1, 2])}, "runs from 0 to 2; .* 0 to 3"),
        ("train", {"impression_offsets": np.array([0, 3])}, "length 2; must be 3.*groups \\+ 1"),
        ("train", {"impression_offsets": _i32(0, 1, 3)}, "impression_offsets: int32 .* be int64"),
        ("train", {"click_B": np.array([0, 1, 2], np.uint8)}, r"click_B: 2 at 2; .*\[0, 2\)"),
        ("train", {"click_B": np.array([0, 1], np.uint8)}, "click_B: length 2; must be 3"),
        ("train", {"click_B": np.array([0.0, 1, 1])}, "click_B: float64 .* must be uint8"),
        ("test", {"cold_B": _i32(0, 1, 0)}, "cold_B: int32 .* must be bool"),
        ("train", {"cold_B": np.array([0, 1, 1], bool)}, "cold_B marks 2 impressions; .*clear"),
        ("test", {"probability_B": np.array([0, 1.5, 0], np.float32)}, "1.5 at 1; .*\\[0, 1\\]"),
        ("test", {"probability_B": np.array([0, np.nan, 0], np.float32)}, "nan at 1"),
        ("items", {"image_N": _i32(0, 1, 2)}, r"items.image_N: 2 at 2; .* in \[-1, 2\)"),
        ("items", {"image_N": _i32(0, 1, -2)}, r"items.image_N: -2 at 2"),
        ("items", {"ids_NF": np.zeros((2, 2), np.int32)}, r"ids_NF: shape \(2, 2\); .*'brand'"),
        ("items", {"ids_NF": _i32(0, 0, 0, 2, 0, 0).reshape(3, 2)}, "field 'brand': 2 at 1"),
        ("features", {"rows_VD": np.ones((2, 4))}, "float64 found; must be float32, or integers"),
        ("features", {"scale_V": None}, "uint8 without scale_V; give a factor"),
        ("features", {"scale_V": np.ones(3, np.float32)}, "scale_V: length 3; must be 2"),
        ("features", {"scale_V": np.array([1, np.inf], np.float32)}, "NaN or infinity in row 1"),
        ("features", {"rows_VD": np.ones((2, 0), np.uint8)}, r"shape \(2, 0\); a row needs"),
        ("features", {"rows_VD": np.ones(2, np.uint8)}, "must be any dtype with 2 dims"),
    ],
)
def test_unsound_part_is_named_with_the_value_found(part, changes, match):
    with pytest.raises(DataError, match=match):
        validate(_with(part, **changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vocabulary_sizes": {"age": 2, "image": 3, "brand": 2}}, "'sales', whose size is None"),
        (
            {"vocabulary_sizes": {"age": 0, "image": 3, "brand": 2, "sales": 5}},
            "'age' wants vocabulary 'age', whose size is 0; .* at least 1",
        ),
        ({"fields": (*_log().fields, IdField("age", "age", "user"))}, r"\['age'\] occur twice"),
        (
            {"fields": (*_log().fields, IdField("seen", "sales", "behavior"))},
            "behavior field 'seen' .* vocabulary 'sales', which 0 item fields have",
        ),
    ],
)
def test_unsound_fields_are_named(changes, match):
    with pytest.raises(DataError, match=match):
        validate(dataclasses.replace(_log(), **changes))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_row_is_found_in_any_chunk(monkeypatch, bad):
    monkeypatch.setattr(non_finite, "_CHUNK_VALUES", 12)  # 3 rows of 4
    for row in (0, 2, 3, 7, 9):
        rows_VD = np.zeros((10, 4), np.float32)
        rows_VD[row, 3] = bad
        assert non_finite.first_non_finite_row(rows_VD) == row
        with pytest.raises(DataError, match=f"features: NaN or infinity in row {row};"):
            validate(_with("features", rows_VD=rows_VD, scale_V=None))
    assert non_finite.first_non_finite_row(np.zeros((10, 4), np.float32)) is None
