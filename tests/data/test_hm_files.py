"""What a user reads when a file of the H&M set is missing, broken or does not fit."""

import datetime
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicm_jax.data.hm import reader as hm
from dicm_jax.data.hm.files import (
    IMPRESSIONS,
    read_articles,
    read_impressions,
    read_transactions,
)
from dicm_jax.errors import DataError
from tests.data import hm_set

FEATURES = "image_features_u8.npz"
IDS = pa.array([hm_set.article_id(article) for article in range(hm_set.ARTICLES)])


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return hm_set.write_set(tmp_path, impressions=True)


def _fails(folder: Path, match: str, **options: Any):
    options.setdefault("cut", hm_set.CUT)
    with pytest.raises(DataError, match=match):
        hm.load(str(folder), **options)


def _replace(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def _features(folder, **changes):
    with np.load(folder / FEATURES) as arrays:
        parts = dict(arrays) | changes
    np.savez(folder / FEATURES, **{k: v for k, v in parts.items() if v is not None})


def test_folder_that_is_not_there(tmp_path):
    _fails(tmp_path / "nowhere", r"nowhere: no such folder; give the folder")


@pytest.mark.parametrize("name", ["articles.csv", "transactions_train.csv"])
def test_missing_file_is_named_with_the_files_found(folder, name):
    (folder / name).unlink()
    (folder / "images").mkdir()
    _fails(folder, rf"{name}: no such file; found \[.*'image_features_u8.npz', 'images/', ")


def test_missing_features_are_named_with_the_files_found(folder):
    (folder / FEATURES).unlink()
    _fails(folder, r"0 feature arrays \(.npz or .npy\) found, \['articles.csv', .*; put one there")
    _fails(folder, r"vgg.npz: no such file; found \['articles.csv'", feature_file="vgg.npz")


def test_one_of_several_feature_arrays_must_be_named(folder):
    np.save(folder / "other.npy", np.zeros((hm_set.ARTICLES, 3), np.float32))
    _fails(folder, r"2 feature arrays .* found, \['image_features_u8.npz', 'other.npy'\]; .*name")
    assert hm.load(str(folder), cut=hm_set.CUT, feature_file="other.npy")


@pytest.mark.parametrize(
    ("name", "old", "new", "near"),
    [
        ("articles.csv", "colour_group_code", "color_group_code", "colour_group_name"),
        ("transactions_train.csv", "t_dat", "t_date", "t_date"),
    ],
)
def test_missing_column_is_named_with_near_columns(folder, name, old, new, near):
    _replace(folder / name, old, new)
    _fails(folder, rf"{name}: no column '{old}'; near it: \[.*'{near}'.*; columns found: \[")


def test_missing_column_of_impressions(folder):
    table = pq.read_table(folder / IMPRESSIONS)
    pq.write_table(table.rename_columns([*table.column_names[:4], "clicks"]), folder / IMPRESSIONS)
    _fails(folder, r"impressions.parquet: no column 'click'; near it: \['clicks'\]; columns found")


def test_missing_array_of_features(folder):
    _features(folder, rows=None)
    _fails(folder, r"no array 'rows'; arrays found: \['article_id', 'scale'\]")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(FEATURES, "a NumPy array file"), (IMPRESSIONS, "Parquet"), ("articles.csv", "CSV")],
)
def test_truncated_file_is_named(folder, name, kind):
    data = (folder / name).read_bytes()
    # 60 bytes short: an archive and a Parquet file end with their directory, a table in a row.
    (folder / name).write_bytes(data[: len(data) - 60])
    _fails(folder, rf"{name}: cannot be read as {kind} \(.*\); it may be cut short")


def test_npz_whose_data_is_damaged(folder):
    path = folder / FEATURES
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("rows.npy").header_offset
    data[offset + 200 : offset + 260] = bytes(60)
    path.write_bytes(data)
    _fails(folder, r"image_features_u8.npz: cannot be read as a NumPy array file")


def test_binary_file_under_the_name_of_a_table(folder):
    (folder / "transactions_train.csv").write_bytes(bytes(range(128, 256)) * 10)
    _fails(folder, r"transactions_train.csv: cannot be read as CSV")


def test_row_that_is_cut_short(folder):
    path = folder / "transactions_train.csv"
    path.write_text(path.read_text()[:-60])
    _fails(folder, r"transactions_train.csv: cannot be read as CSV \(.*Expected 5 columns, got 2")


def test_date_of_transactions_that_is_none(folder):
    _replace(folder / "transactions_train.csv", hm_set.date(3), "2018-09-31")
    _fails(folder, r"cannot be read as CSV \(.*'2018-09-31'.*dates are YYYY-MM-DD")


def test_date_of_impressions_that_is_none(folder):
    n = pq.read_metadata(folder / IMPRESSIONS).num_rows
    hm_set.write_impressions(folder, hm_set.purchases(), t_dat=pa.array(["yesterday"] * n))
    _fails(folder, r"column 't_dat' holds something that is not a date .*yesterday.*YYYY-MM-DD")


@pytest.mark.parametrize("name", ["transactions_train.csv", IMPRESSIONS])
def test_date_in_the_future(folder, name):
    """Two days ahead: today's date may be tomorrow's elsewhere."""
    future = str(datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2))
    rows = hm_set.purchases()
    rows[7] = rows[9] = (future, *rows[7][1:])
    if name == IMPRESSIONS:
        days = pq.read_table(folder / IMPRESSIONS)["t_dat"].to_pylist()
        days[7] = days[9] = future
        hm_set.write_impressions(folder, hm_set.purchases(), t_dat=pa.array(days))
    else:
        hm_set.write_transactions(folder, rows)
    _fails(folder, rf"{name}: 2 of \d+ rows are dated in the future, first {future} in row 7 \(tod")


def test_lines_are_read_to_the_letter(tmp_path):
    """Lines in the form of Kaggle's: leading zeros, quotes, no description, plain line ends."""
    (tmp_path / "articles.csv").write_bytes(
        (hm_set.ARTICLES_HEADER + "\n").encode()
        + b"0108775015,0108775,Strap top,253,Vest top,Garment Upper body,1010016,Solid,09,Black,4,"
        b"Dark,5,Black,1676,Jersey Basic,A,Ladieswear,1,Ladieswear,16,Womens Everyday Basics,1002,"
        b'Jersey Basic,"Jersey top, narrow ""shoulder"" straps."\n'
        b"0351332007,0351332,Marshall Lace up Top,252,Sweater,Garment Upper body,1010018,Treatment,"
        b"9,Black,4,Dark,5,Black,1723,Menswear Sweaters,F,Menswear,3,Menswear,26,Men,1005,Jersey,\n"
    )
    customer = "000058a12d5b43e67d225668fa1f8d618c13dc232df0cad8ffe7ad4a1091e318"
    (tmp_path / "transactions_train.csv").write_bytes(
        b"t_dat,customer_id,article_id,price,sales_channel_id\n"
        + f"2018-09-20,{customer},0351332007,0.0508305084745762,2\n".encode()
    )
    articles = read_articles(tmp_path)
    assert articles.ids.to_pylist() == ["0108775015", "0351332007"]
    # Colours 09 and 9 are two: codes are text.
    expected = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1]]
    assert articles.keys_NF.tolist() == expected
    read = read_transactions(tmp_path, articles.ids)
    assert (read.customers.to_pylist(), read.item_E.tolist()) == ([customer], [1])
    assert read.day_E.tolist() == [17_794]


def test_dates_of_impressions_may_be_of_any_type_that_holds_dates(folder):
    reference = read_impressions(folder, IDS)
    days = pq.read_table(folder / IMPRESSIONS)["t_dat"].to_pylist()
    dates = pa.array([datetime.date.fromisoformat(day) for day in days])
    for kind in (pa.date32(), pa.date64(), pa.timestamp("ns")):
        hm_set.write_impressions(folder, hm_set.purchases(), t_dat=dates.cast(kind))
        read = read_impressions(folder, IDS)
        assert reference is not None
        assert read is not None
        np.testing.assert_array_equal(reference.day_E, read.day_E)


@pytest.mark.parametrize(("at", "name"), [(0, "t_dat"), (1, "customer_id"), (2, "article_id")])
def test_empty_value_is_counted_and_its_row_named(folder, at, name):
    rows = [list(row) for row in hm_set.purchases()]
    rows[7][at] = rows[9][at] = ""
    hm_set.write_transactions(folder, [(row[0], row[1], row[2]) for row in rows])
    _fails(folder, rf"transactions_train.csv: 2 rows without a {name}, first row 7")


def test_null_customer_of_impressions(folder):
    ids = pq.read_table(folder / IMPRESSIONS)["customer_id"].to_pylist()
    ids[4] = None
    hm_set.write_impressions(folder, hm_set.purchases(), customer_id=pa.array(ids))
    _fails(folder, r"impressions.parquet: 1 rows without a customer_id, first row 4")


def test_unknown_articles_are_counted_and_the_first_named(folder):
    rows = hm_set.purchases()
    strange = [(rows[0][0], rows[0][1], article) for article in ("0999999999", "108775015")]
    hm_set.write_transactions(folder, rows + strange)
    _fails(
        folder,
        rf"transactions_train.csv: 2 of {len(rows) + 2} rows name an article that articles.csv "
        rf"lacks, first '0999999999' in row {len(rows)}; .*leading zero",
    )


def test_unknown_article_of_impressions(folder):
    ids = pq.read_table(folder / IMPRESSIONS)["article_id"].to_pylist()
    ids[5] = "42"
    hm_set.write_impressions(folder, hm_set.purchases(), article_id=pa.array(ids))
    _fails(folder, rf"impressions.parquet: 1 of {len(ids)} rows name an article .*'42' in row 5")


@pytest.mark.parametrize("bad", [2, -1, None, 0.5])
def test_click_that_is_neither_0_nor_1(folder, bad):
    clicks = pq.read_table(folder / IMPRESSIONS)["click"].to_pylist()
    clicks[3] = bad
    hm_set.write_impressions(folder, hm_set.purchases(), click=pa.array(clicks))
    _fails(folder, rf"1 rows have a click other than 0 and 1, first {bad} in row 3")


def test_article_listed_twice(folder):
    path = folder / "articles.csv"
    _replace(path, hm_set.article_id(1), hm_set.article_id(0))
    _fails(folder, rf"articles.csv: 1 article_ids are listed twice, first '{hm_set.article_id(0)}'")


@pytest.mark.parametrize(
    ("name", "what"), [("articles.csv", "article"), ("transactions_train.csv", "row")]
)
def test_table_of_a_header_alone(folder, name, what):
    header = (folder / name).read_text().splitlines()[0]
    (folder / name).write_text(header + "\n")
    _fails(folder, rf"{name}: no {what} in it; give the full file")


def test_dates_and_articles_survive_a_byte_order_mark(folder):
    before = read_transactions(folder, IDS)
    path = folder / "transactions_train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    after = read_transactions(folder, IDS)
    np.testing.assert_array_equal(before.day_E, after.day_E)
    np.testing.assert_array_equal(before.item_E, after.item_E)


def test_feature_rows_that_are_no_matrix(folder):
    _features(folder, rows=np.zeros(hm_set.ARTICLES, np.float32))
    _fails(
        folder, rf"rows are float32 of shape \({hm_set.ARTICLES},\); expected numbers \[articles"
    )


def test_feature_rows_fewer_than_ids(folder):
    _features(folder, rows=np.zeros((49, 8), np.float32), scale=None)
    _fails(folder, r"rows has shape \(49, 8\), but article_id has 50 articles; .*one row for each")


def test_npy_rows_fewer_than_articles(folder):
    np.save(folder / "f.npy", np.zeros((49, 8), np.float32))
    _fails(
        folder,
        r"rows has shape \(49, 8\), but articles.csv names 50 articles",
        feature_file="f.npy",
    )


def test_scale_of_another_length(folder):
    _features(folder, scale=np.ones(49, np.float32))
    _fails(folder, r"scale is float32 of shape \(49,\), rows has shape \(50, 8\); expected float32")


def test_article_ids_that_are_numbers(folder):
    _features(folder, article_id=np.arange(50))
    _fails(folder, r"article_id is int64 of shape \(50,\); expected text .*leading zero")


def test_article_with_two_rows(folder):
    with np.load(folder / FEATURES) as arrays:
        ids = arrays["article_id"]
    ids[3] = ids[4]
    _features(folder, article_id=ids)
    _fails(folder, r"1 of 50 rows repeat an article_id; keep one row for each")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_feature_names_its_article(folder, bad):
    rows_VD = np.zeros((50, 8), np.float32)
    rows_VD[33, 7] = rows_VD[40, 0] = bad
    _features(folder, rows=rows_VD, scale=None)
    _fails(
        folder,
        rf"NaN or infinity in rows, first at article '{hm_set.article_id(33)}' \(row 33\)",
    )


def test_non_finite_scale_names_its_article(folder):
    scale_V = np.ones(50, np.float32)
    scale_V[2] = np.nan
    _features(folder, scale=scale_V)
    _fails(folder, rf"NaN or infinity in scale, first at article '{hm_set.article_id(2)}'")


@pytest.mark.parametrize(("cut", "split"), [("2018-09-20", "train"), ("2030-01-01", "test")])
def test_empty_split_names_the_cut_and_the_dates_found(folder, cut, split):
    _fails(
        folder,
        rf"cut at {cut} leaves the {split} split empty; impressions run from 2018-09-20 to "
        rf"{hm_set.date(hm_set.DAYS - 1)}",
        cut=cut,
    )


@pytest.mark.parametrize("impressions", [True, False])
def test_validation_before_the_first_impression(folder, impressions):
    if not impressions:
        (folder / IMPRESSIONS).unlink()
    _fails(folder, r"no impression before cut='2018-01-01'", cut="2018-01-01", validation_days=7)


def test_a_window_without_impressions_names_its_days(folder):
    (folder / IMPRESSIONS).unlink()
    rows = [row for row in hm_set.purchases() if not "2018-12-10" <= row[0] < hm_set.CUT]
    hm_set.write_transactions(folder, rows)
    _fails(
        folder,
        "no impression of the train split from 2018-12-15 to before 2018-12-20; give it more days",
        train_days=5,
    )
    _fails(
        folder,
        "no impression of the test split from 2018-12-11 to before 2018-12-13; give it more days",
        cut="2018-12-11",
        test_days=2,
    )


def test_cut_that_is_no_date(folder):
    _fails(folder, r"cut='soon' is not a date; write it as YYYY-MM-DD", cut="soon")


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("behaviors", -1, 0), ("negatives", 0, 1), ("validation_days", -7, 0), ("seed", -1, 0)],
)
def test_impossible_argument(folder, name, value, least):
    _fails(folder, rf"{name}={value}; must be at least {least}", **{name: value})
