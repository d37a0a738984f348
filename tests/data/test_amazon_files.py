"""What a user reads when a file of an Amazon set is missing, broken or does not fit."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicm_jax.data.amazon import reader as amazon
from dicm_jax.data.amazon.config import AmazonConfig
from dicm_jax.data.amazon.files import objects
from dicm_jax.errors import DataError
from dicm_jax.train import train
from tests.data import amazon_set
from tests.data.amazon_set import FEATURES, METADATA, RATINGS, REVIEWS

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return amazon_set.write_set(tmp_path / "set")


@pytest.fixture(name="rated")
def _rated(folder):
    (folder / REVIEWS).unlink()
    amazon_set.write_ratings(folder / RATINGS, amazon_set.reviews())
    return folder


def _fails(folder: Path, match: str, **settings: Any):
    with pytest.raises(DataError, match=match):
        amazon.load(str(folder), config=AmazonConfig(**settings))


def _set_line(path: Path, number: int, line: bytes):
    """Replaces one line, numbered from 1."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines))


def _set_field(path: Path, number: int, name: str, value: Any, *, write=json.dumps):
    """Replaces one field of the object on a line; ``...`` takes it away."""
    fields = dict(objects(path))[number]
    fields[name] = value
    if value is ...:
        del fields[name]
    _set_line(path, number, write(fields).encode())


def test_published_lines_are_read_to_the_letter(tmp_path):
    """Lines as the sets are published: strict JSON, and the literal of a Python dictionary."""
    path = tmp_path / "lines.json"
    path.write_bytes(
        b'{"reviewerID": "A2SUAM1J3GNN3B", "asin": "0000013714", "reviewerName": "J. McDonald",'
        b' "helpful": [2, 3], "reviewText": "She\\u2019s \\"very\\" pleased", "overall": 5.0,'
        b' "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009"}\n'
        b"{'asin': '0000031852', 'title': \"Girl's Ballet Tutu\", 'price': 3.17, 'related': {},"
        b" 'salesRank': {'Toys & Games': 211836}, 'brand': 'Coxlures', 'categories':"
        b" [['Sports & Outdoors', 'Other Sports', 'Dance']], 'imUrl': None}\n"
    )
    (one, review), (two, product) = objects(path)
    assert (one, two) == (1, 2)
    assert review["reviewText"] == 'She’s "very" pleased'
    assert (review["overall"], review["unixReviewTime"]) == (5.0, 1_252_800_000)
    assert product["title"] == "Girl's Ballet Tutu"
    assert product["categories"] == [["Sports & Outdoors", "Other Sports", "Dance"]]
    assert product["imUrl"] is None


def test_a_line_is_parsed_and_never_executed(folder, tmp_path):
    trap = tmp_path / "executed"
    line = f"{{'asin': open({str(trap)!r}, 'w').name}}".encode()
    _set_line(folder / METADATA, 3, line)
    _fails(folder, r"meta_Men.json, line 3: neither JSON nor a Python literal \(.*open\(")
    assert not trap.exists()


def test_folder_that_is_not_there(tmp_path):
    _fails(tmp_path / "nowhere", r"nowhere: no such folder; give the folder that holds reviews_")


def test_missing_reviews_and_features_are_named_with_the_files_found(folder):
    (folder / REVIEWS).unlink()
    _fails(
        folder,
        r"0 of reviews_\*.json or reviews_\*.json.gz or ratings_\*.csv found, "
        r"\['image_features_Men.b', 'meta_Men.json'\]; put one there, .*data.amazon.reviews",
    )
    (folder / FEATURES).unlink()
    _fails(folder, r"none.json: no such file; found \['meta_Men.json'\]", reviews="none.json")
    amazon_set.write_set(folder)
    (folder / FEATURES).unlink()
    _fails(folder, r"0 of image_features_\*.b or \*.npz or \*.npy found, \['meta_Men.json', 'rev")


def test_one_of_several_files_must_be_named(folder):
    rows = amazon_set.reviews()[:300]
    amazon_set.write_ratings(folder / RATINGS, rows)
    _fails(folder, r"2 of reviews_.* found, \['ratings_Men.csv', 'reviews_Men_5.json'\]; .*name")
    log = amazon.load(str(folder), config=AmazonConfig(reviews=RATINGS))
    assert log.notes["reviews"] == len(rows)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            b'{"reviewerID": "A1", "asin"',
            r"neither JSON nor a Python literal \(.*\) where an object",
        ),
        (b"[1, 2]", r"a list where an object belongs: '\[1, 2\]'"),
        (b"17", "a int where an object belongs: '17'"),
        (b"\xff\xfe\x00", r"neither JSON nor a Python literal \('utf-8' codec"),
        (b"{'a': " * 5000, "neither JSON nor a Python literal"),
    ],
    ids=["cut short", "list", "number", "no text", "nested"],
)
def test_line_that_is_no_object(folder, line, found):
    _set_line(folder / REVIEWS, 17, line)
    _fails(folder, rf"reviews_Men_5.json, line 17: {found}")


def test_empty_lines_are_passed_over(folder):
    reference = amazon.load(str(folder))
    path = folder / REVIEWS
    path.write_bytes(b"\n" + path.read_bytes().replace(b"\n", b"\r\n\n") + b"  \n")
    assert amazon.load(str(folder)).notes == reference.notes


@pytest.mark.parametrize("name", ["reviewerID", "asin", "overall", "unixReviewTime"])
def test_field_of_a_review_that_is_missing(folder, name):
    _set_field(folder / REVIEWS, 5, name, ...)
    _fails(folder, rf"reviews_Men_5.json, line 5: no field '{name}'; fields found: \['.*'summary'")


@pytest.mark.parametrize("name", ["reviewerID", "asin"])
@pytest.mark.parametrize("value", ["", None, 17])
def test_review_without_a_name(folder, name, value):
    _set_field(folder / REVIEWS, 8, name, value)
    _fails(folder, rf"reviews_Men_5.json, line 8: {name} is {value!r}; it must be a name")


@pytest.mark.parametrize("value", [0, 0.5, 5.5, -1, "5", None, True, float("nan"), [5]])
def test_rating_outside_1_to_5(folder, value):
    _set_field(folder / REVIEWS, 9, "overall", value)
    shown = repr(value).replace("[", r"\[")
    _fails(folder, rf"reviews_Men_5.json, line 9: rating {shown}; a rating is 1 to 5 stars")


@pytest.mark.parametrize("value", ["1362096000", None, 1362096000.5, True, "yesterday"])
def test_time_that_is_no_number(folder, value):
    _set_field(folder / REVIEWS, 9, "unixReviewTime", value)
    _fails(folder, rf"Men_5.json, line 9: time {value!r}; a time is a whole number of seconds")


def test_time_before_1970_or_in_the_future(folder):
    _set_field(folder / REVIEWS, 9, "unixReviewTime", -1)
    _fails(folder, r"reviews_Men_5.json, line 9: time -1 is before 1970; a time is seconds")
    for second in (int(time.time()) + 3 * 86_400, 1_362_096_000_000):  # in days; milliseconds
        _set_field(folder / REVIEWS, 9, "unixReviewTime", second)
        _fails(folder, rf"line 9: time {second} lies in the future; .* no smaller unit")


@pytest.mark.parametrize("name", [REVIEWS, METADATA])
def test_gz_that_is_cut_short_or_none(folder, name):
    amazon_set.pack(folder / name)
    path = folder / f"{name}.gz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    _fails(folder, rf"{name}.gz, after line \d+: cannot be read on \(.*\); it may be cut short")
    path.write_bytes(b"{}\n" + data)
    _fails(folder, rf"{name}.gz, after line 0: cannot be read on \(Not a gzipped file")


@pytest.mark.parametrize("name", [REVIEWS, RATINGS])
def test_file_of_reviews_without_one(folder, name):
    (folder / REVIEWS).unlink()
    (folder / name).write_bytes(b"\n" if name == REVIEWS else b"")
    _fails(folder, rf"{name}: (no review in it|cannot be read as CSV \(Empty CSV file)")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"A1,B1,5.0", r"cannot be read as CSV \(.*Row #7: Expected 4 columns, got 3: A1,B1,5.0"),
        (b"A1,B1,,1362096000", "line 7: rating ''; a rating is 1 to 5 stars"),
        (b"A1,B1,0.0,1362096000", "line 7: rating 0.0; a rating is 1 to 5 stars"),
        (b"A1,B1,nan,1362096000", "line 7: rating nan; a rating is 1 to 5 stars"),
        (b"A1,B1,5.0,soon", "line 7: time 'soon'; a time is a whole number of seconds since 1970"),
        (b"A1,B1,5.0,-86400", "line 7: time -86400 is before 1970"),
        (b"A1,B1,5.0,99999999999", "line 7: time 99999999999 lies in the future"),
        (b",B1,5.0,1362096000", "line 7: user is ''; it must be a name"),
        (b"A1,,5.0,1362096000", "line 7: item is ''; it must be a name"),
    ],
)
def test_line_of_ratings_that_does_not_fit(rated, line, message):
    _set_line(rated / RATINGS, 7, line)
    _fails(rated, rf"ratings_Men.csv(:|,) {message}")


def test_header_of_ratings_is_no_rating(rated):
    path = rated / RATINGS
    path.write_bytes(b"user,item,rating,timestamp\n" + path.read_bytes())
    _fails(rated, r"ratings_Men.csv, line 1: rating 'rating'; a rating is 1 to 5 stars")


def test_product_listed_twice(folder):
    _set_field(folder / METADATA, 12, "asin", amazon_set.asin(3), write=repr)
    _fails(
        folder, r"meta_Men.json, line 12: asin 'B00000006F' is listed before, in line 3; keep one"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("asin", ..., "asin is None; every line must name its product"),
        ("asin", 17, "asin is 17; every line must name its product"),
        ("brand", 17, "brand is 17; it must be text, or be left out"),
        ("categories", "Shoes", "categories is 'Shoes'; it must be a list of lists of names"),
        ("categories", ["Shoes"], r"categories is \['Shoes'\]; it must be a list of lists"),
        ("categories", [[17]], r"categories is \[\[17\]\]; it must be a list of lists"),
        ("price", "$3.17", r"price is '\$3.17'; it must be dollars, a number from 0 on"),
        ("price", -1, "price is -1; it must be dollars, a number from 0 on"),
    ],
)
def test_metadata_of_another_type(folder, name, value, message):
    _set_field(folder / METADATA, 4, name, value, write=repr)
    _fails(folder, rf"meta_Men.json, line 4: {message}")


def test_features_that_are_cut_short(folder):
    path = folder / FEATURES
    path.write_bytes(path.read_bytes()[:-1000])
    _fails(folder, r"image_features_Men.b: 687548 bytes are 41 records of 16394 and 15394 bytes")


def test_features_of_another_category(folder):
    amazon_set.write_features(folder / FEATURES, [])
    _fails(folder, r"none of its 3 rows is of a product of the reviews, such as '0000000")


def test_product_with_two_pictures_in_an_array(folder):
    (folder / FEATURES).unlink()
    np.savez(folder / "a.npz", asin=np.array([amazon_set.asin(1)] * 2), rows=np.zeros((2, 3)))
    _fails(folder, r"a.npz: 1 of 2 rows repeat an asin; keep one row for each")
    np.save(folder / "b.npy", np.zeros((40, 3)))
    _fails(folder, r"b.npy: its rows say no asin, .*; save asin and rows as", features="b.npy")


def test_no_review_is_good_enough(folder):
    rows = [row._replace(stars=min(row.stars, 3.0)) for row in amazon_set.reviews()]
    amazon_set.write_json(folder / REVIEWS, map(amazon_set.review_fields, rows))
    _fails(
        folder,
        rf"none of {len(rows)} reviews has 4 stars or more, the best has 3; set a smaller",
        least_rating=4,
    )


def test_cut_that_divides_nothing(folder):
    _fails(folder, r"Amazon data: cut='soon' is not a date; write it as YYYY-MM-DD", cut="soon")
    for cut, split in (("2013-03-01", "train"), ("2014-01-01", "test")):
        _fails(
            folder,
            rf"cut at {cut} leaves the {split} split empty; impressions run from 2013-03-01 to "
            r"2013-06-20: cut between these days",
            cut=cut,
        )


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("behaviors", -1, 0), ("negatives", 0, 1), ("validation_days", -7, 0), ("seed", -1, 0)],
)
def test_impossible_argument(folder, name, value, least):
    with pytest.raises(DataError, match=rf"Amazon data: {name}={value}; must be at least {least}"):
        amazon.load(str(folder), **{name: value})


def test_a_run_from_the_files_to_its_scores(folder, tmp_path, capsys):
    overrides = [
        f"data.path={folder}",
        "data.behaviors=6",
        "model.compressor_widths=5,4",
        "model.embedding_width=4",
        "model.attention_widths=4",
        "model.head_widths=8",
        "train.batch_size=256",
        "train.epochs=1",
        "evaluate.batch_size=256",
    ]
    assert train(str(ROOT / "configs/amazon.py"), tmp_path / "run", overrides) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] > 5
    assert 0 < result["gauc"] < 1
    assert np.isfinite(result["logloss"])
    assert "items without image: 1" in capsys.readouterr().out
