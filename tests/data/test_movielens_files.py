"""What a user reads when a file of MovieLens is missing, broken or does not fit."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicm_jax.config import Config, DataConfig
from dicm_jax.data.movielens import reader as movielens
from dicm_jax.data.movielens.config import MovieLensConfig
from dicm_jax.data.movielens.files import ML_1M, ML_100K, read_movies, read_ratings, read_users
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.train import train
from tests.data import movielens_set

BOTH = pytest.mark.parametrize("form", [ML_1M, ML_100K], ids=lambda form: form.name)
ROOT = Path(__file__).parents[2]


def _fails(folder: Path, match: str, **settings: Any):
    with pytest.raises(DataError, match=match):
        movielens.load(str(folder), config=MovieLensConfig(**settings))


def _set_line(path: Path, number: int, old: str, new: str):
    """Changes one line, numbered from 1."""
    lines = path.read_bytes().decode("latin-1").split("\n")
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    path.write_bytes("\n".join(lines).encode("latin-1"))


def test_published_lines_of_1m_are_read_to_the_letter(tmp_path):
    (tmp_path / "ratings.dat").write_bytes(b"1::1193::5::978300760\n")
    (tmp_path / "users.dat").write_bytes(b"1::F::1::10::48067\n")
    (tmp_path / "movies.dat").write_bytes(
        b"1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n"
        b"73::Mis\xe9rables, Les (1995)::Drama|Musical\n"
    )
    movies, users = read_movies(tmp_path, ML_1M), read_users(tmp_path, ML_1M)
    assert movies.id_N.tolist() == [1193, 73]
    assert movies.titles[1] == "Misérables, Les (1995)"
    assert movies.year_N.tolist() == [1975, 1995]
    assert movies.genres == (("Drama",), ("Drama", "Musical"))
    profile = {name: values.tolist() for name, values in users.profile.items()}
    assert profile == {"gender": ["F"], "age": [1], "occupation": ["10"], "zip_region": ["4"]}
    ratings = read_ratings(tmp_path, ML_1M, users, movies)
    columns = (ratings.user_E, ratings.movie_E, ratings.rating_E, ratings.second_E)
    assert [column.tolist() for column in columns] == [[0], [0], [5], [978_300_760]]


def test_published_lines_of_100k_are_read_to_the_letter(tmp_path):
    """Among them the movie without a title, a date and an address."""
    (tmp_path / "u.data").write_bytes(b"196\t242\t3\t881250949\n")
    (tmp_path / "u.user").write_bytes(b"196|49|M|writer|55105\n")
    (tmp_path / "u.item").write_bytes(
        b"242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|"
        b"0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        b"267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    )
    movies, users = read_movies(tmp_path, ML_100K), read_users(tmp_path, ML_100K)
    assert movies.titles == ("Kolya (1996)", "unknown")
    assert movies.year_N.tolist() == [1996, 0]
    assert movies.genres == (("Comedy",), ("unknown",))
    profile = {name: values.tolist() for name, values in users.profile.items()}
    assert profile == {"gender": ["M"], "age": [45], "occupation": ["writer"], "zip_region": ["5"]}
    ratings = read_ratings(tmp_path, ML_100K, users, movies)
    columns = (ratings.user_E, ratings.movie_E, ratings.rating_E, ratings.second_E)
    assert [column.tolist() for column in columns] == [[0], [0], [3], [881_250_949]]


def test_folder_that_is_not_there(tmp_path):
    _fails(tmp_path / "nowhere", r"nowhere: no such folder; give the folder that holds ratings.dat")


def test_neither_set(tmp_path):
    (tmp_path / "ratings.csv").touch()
    _fails(tmp_path, r"0 of ratings.dat \(1M\) and u.data \(100K\) found among \['ratings.csv'\]")


def test_both_sets(tmp_path):
    movielens_set.write_set(tmp_path, ML_1M.name)
    movielens_set.write_set(tmp_path, ML_100K.name)
    _fails(tmp_path, r"2 of ratings.dat .* there must be one of the two")


@BOTH
@pytest.mark.parametrize("kind", ["users", "movies"])
def test_missing_file(tmp_path, form, kind):
    movielens_set.write_set(tmp_path, form.name)
    (tmp_path / getattr(form, kind)).unlink()
    _fails(tmp_path, rf"{getattr(form, kind)}: no such file; found \['")


@BOTH
@pytest.mark.parametrize("at", range(3), ids=["ratings", "users", "movies"])
def test_line_with_too_few_parts(tmp_path, form, at):
    movielens_set.write_set(tmp_path, form.name)
    name, parts = (form.ratings, form.users, form.movies)[at], form.parts[at]
    _set_line(tmp_path / name, 7, form.separators[at], " ")
    _fails(tmp_path, rf"{name}, line 7: \d+ parts between '.*' where {parts} belong: '")


@BOTH
def test_movie_that_the_catalogue_lacks(tmp_path, form):
    rows = movielens_set.ratings()
    rows[3] = rows[3]._replace(movie=99_999)
    movielens_set.write_set(tmp_path, form.name, rows)
    _fails(tmp_path, rf"{form.ratings}, line 4: 99999 is not in {form.movies}; the files must")


@BOTH
def test_user_without_a_profile(tmp_path, form):
    rows = movielens_set.ratings()
    rows[3] = rows[3]._replace(user=777)
    movielens_set.write_set(tmp_path, form.name, rows)
    _fails(tmp_path, rf"{form.ratings}, line 4: 777 is not in {form.users}; .* \(1 such lines\)")


@pytest.mark.parametrize("stars", [0, 6, -1])
def test_rating_out_of_range(tmp_path, stars):
    rows = movielens_set.ratings()
    rows[9] = rows[9]._replace(stars=stars)
    movielens_set.write_set(tmp_path, rows=rows)
    _fails(tmp_path, rf"ratings.dat, line 10: rating {stars}; a rating is 1 to 5 whole stars")


@pytest.mark.parametrize("case", ["before 1970", "in three days", "in milliseconds"])
def test_time_before_1970_or_in_the_future(tmp_path, case):
    soon = int(time.time()) + 3 * 86_400  # not in the test's name, which must not change
    second = {"before 1970": -1, "in three days": soon, "in milliseconds": 978_300_760_000}[case]
    rows = movielens_set.ratings()
    rows[9] = rows[9]._replace(second=second)
    movielens_set.write_set(tmp_path, rows=rows)
    _fails(tmp_path, rf"ratings.dat, line 10: time {second} is not between 0 and \d+, tomorrow, in")


@pytest.mark.parametrize(
    ("part", "bad", "match"),
    [
        (2, "3.5", "'3.5' is not a rating, 1 to 5 whole stars"),
        (3, "2000-12-31", "'2000-12-31' is not a time in seconds since 1970"),
        (3, "", "'' is not a time"),
        (0, "anna", "'anna' is not a user's number"),
        (1, "9" * 30, "'9+' is not a movie's number"),
    ],
)
def test_value_that_is_no_number(tmp_path, part, bad, match):
    movielens_set.write_set(tmp_path)
    path = tmp_path / "ratings.dat"
    lines = path.read_text().split("\n")
    parts = lines[4].split("::")
    parts[part] = bad
    lines[4] = "::".join(parts)
    path.write_text("\n".join(lines))
    _fails(tmp_path, rf"ratings.dat, line 5: {match}")


@BOTH
def test_movie_and_user_listed_twice(tmp_path, form):
    movielens_set.write_set(tmp_path, form.name)
    first = f"{movielens_set.movie_id(0)}{form.separators[2]}"
    _set_line(tmp_path / form.movies, 3, f"{movielens_set.movie_id(2)}{form.separators[2]}", first)
    _fails(tmp_path, rf"{form.movies}, line 3: movie 1 is listed before; keep one line for each")
    movielens_set.write_set(tmp_path, form.name)
    _set_line(tmp_path / form.users, 2, "2", "1")
    _fails(tmp_path, rf"{form.users}, line 2: user 1 is listed before")


def test_genre_flag_that_is_none(tmp_path):
    movielens_set.write_set(tmp_path, ML_100K.name)
    _set_line(tmp_path / "u.item", 5, "|1|", "|2|")
    _fails(tmp_path, r"u.item, line 5: genre flags .*2.*; each is 0 or 1")


def test_empty_file(tmp_path):
    movielens_set.write_set(tmp_path)
    (tmp_path / "movies.dat").write_bytes(b"")
    _fails(tmp_path, r"movies.dat, line 1: 1 parts between '::' where 3 belong: ''")


@pytest.mark.parametrize(("kept", "split"), [("old", "test"), ("new", "train")])
def test_split_without_a_click(tmp_path, kept, split):
    rows = movielens_set.ratings()
    cut = sorted(row.second for row in rows)[int(len(rows) * 0.8)]
    dull = [row if (row.second < cut) == (kept == "old") else row._replace(stars=3) for row in rows]
    movielens_set.write_set(tmp_path, rows=dull)
    _fails(tmp_path, rf"0 of \d+ ratings of the {split} split are clicks \(4 stars or more\)")


def test_cut_that_divides_nothing(tmp_path):
    rows = [row._replace(second=5) for row in movielens_set.ratings()]
    movielens_set.write_set(tmp_path, rows=rows)
    _fails(tmp_path, r"test_share=0.2 leaves the train split empty: all 900 ratings lie in seconds")


def test_movie_with_two_posters(tmp_path):
    movielens_set.write_set(tmp_path)
    movielens_set.write_posters(tmp_path, np.array([3, 4, 3]))
    _fails(tmp_path, r"posters.npz: 1 of 3 rows repeat a movie_id; keep one row for each")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_poster_that_is_not_finite(tmp_path, bad):
    movielens_set.write_set(tmp_path)
    rows = movielens_set.poster_rows()[:-1]
    rows[8, 2] = bad
    movielens_set.write_posters(tmp_path, rows=rows)
    _fails(
        tmp_path, rf"first at movie '{movielens_set.movie_id(8)}' \(row 8\); make that row again"
    )


def test_posters_that_are_missing_or_of_another_kind(tmp_path):
    movielens_set.write_set(tmp_path)
    _fails(
        tmp_path,
        r"posters.h5: a feature array is one of .npz, .npy, .parquet",
        posters="posters.h5",
    )
    _fails(tmp_path, r"vgg.npz: no such file; found \['movies.dat'", posters="vgg.npz")
    movielens_set.write_posters(tmp_path, movie_id=np.zeros(39))
    _fails(tmp_path, r"movie_id is float64 of shape \(39,\); expected integers or text")
    np.savez(tmp_path / "posters.npz", rows=movielens_set.poster_rows())
    _fails(tmp_path, r"no array 'movie_id'; arrays found: \['rows'\]; save it with movie_id, rows")
    (tmp_path / "posters.npz").unlink()
    _fails(tmp_path, r"0 feature arrays \(.npz or .npy\) found, \['movies.dat', .*; put one there")


def test_days_of_validation_belong_to_another_reader():
    with pytest.raises(ConfigError, match=r"validation_days=3 with data.kind='movielens': .*share"):
        Config(data=DataConfig(kind="movielens", path="folder", validation_days=3))


def test_a_run_from_the_files_to_its_scores(tmp_path, capsys):
    folder = movielens_set.write_set(tmp_path / "set")
    overrides = [
        f"data.path={folder}",
        "data.behaviors=6",
        "data.validation_share=0.2",
        "model.compressor_widths=5,4",
        "model.embedding_width=4",
        "model.attention_widths=4",
        "model.head_widths=8",
        "train.batch_size=128",
        "train.epochs=1",
        "evaluate.batch_size=256",
    ]
    assert train(str(ROOT / "configs/movielens.py"), tmp_path / "run", overrides) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] > 0
    assert 0 < result["gauc"] < 1
    assert np.isfinite(result["logloss"])
    assert "items without image: 1" in capsys.readouterr().out
