"""The MovieLens reader against a plain reading of its protocol, rating by rating."""

import bisect
import collections
import dataclasses

import numpy as np
import pytest

from dicm_jax.data.movielens import reader as movielens
from dicm_jax.data.movielens.config import MovieLensConfig
from dicm_jax.data.movielens.files import ML_1M, ML_100K, format_of, poster_files, read_movies
from dicm_jax.data.schema import NO_IMAGE, ClickLog, in_memory
from dicm_jax.data.statistics import BUCKET_EDGES
from dicm_jax.data.validate import validate
from tests.data import movielens_set
from tests.data.movielens_set import Rating

BOTH = pytest.mark.parametrize("name", [ML_1M.name, ML_100K.name])


def _load(folder, rows=None, name=ML_1M.name, **options) -> ClickLog:
    return movielens.load(str(movielens_set.write_set(folder, name, rows)), **options)


def _bucket(count):
    return bisect.bisect_right(BUCKET_EDGES.tolist(), count)


def _plain_impressions(rows, period_s, behaviors):
    """(user, period, movie, clicked, behaviors, history ids, context ids) of each rating."""
    plain = []
    for user, movie, stars, second in rows:
        start = second // period_s * period_s
        liked = [row for row in rows if row.user == user and row.stars >= 4]
        liked = sorted(
            (row for row in liked if row.second < start), key=lambda row: (row.second, row.movie)
        )
        since = start - liked[-1].second // period_s * period_s if liked else 0
        others = [row for row in rows if row.movie == movie and row.second < start]
        plain.append(
            (
                user,
                second // period_s,
                movie,
                int(stars >= 4),
                tuple(row.second for row in liked[-behaviors:]),
                frozenset(row.movie for row in liked if row.second > liked[-behaviors:][0].second),
                (_bucket(len(liked)), _bucket(-(-since // 60))),
                (_bucket(sum(row.stars >= 4 for row in others)), _bucket(len(others))),
            )
        )
    return plain


def _read_impressions(log, split_name, rows, period_s):
    """The impressions of a split in the form of `_plain_impressions`."""
    split = log.split(split_name)
    seconds = {(row.user, row.movie): row.second for row in rows}
    group_B = np.repeat(np.arange(split.n_groups), np.diff(split.impression_offsets))
    read = []
    for at, group in enumerate(group_B):
        user = int(split.user_G[group]) + 1
        movie = movielens_set.movie_id(int(split.item_B[at]))
        own = slice(*split.behavior_offsets[group : group + 2])
        liked = [movielens_set.movie_id(int(item)) for item in split.behavior_item_H[own]]
        times = tuple(seconds[user, one] for one in liked)
        after_first = frozenset(one for one in liked if seconds[user, one] > times[0])
        read.append(
            (
                user,
                seconds[user, movie] // period_s,
                movie,
                int(split.click_B[at]),
                times,
                after_first,
                tuple(split.user_ids_GF[group, -2:].tolist()),
                tuple(split.context_ids_BF[at].tolist()),
            )
        )
    return read


@pytest.mark.parametrize("period_s", [1, 60, 86_400])
def test_impressions_equal_a_plain_reading_of_the_protocol(tmp_path, period_s):
    rows = movielens_set.ratings()
    log = _load(tmp_path, rows, behaviors=4, config=MovieLensConfig(period_s=period_s))
    plain = _plain_impressions(rows, period_s, behaviors=4)
    read = [
        impression
        for split in ("train", "test")
        for impression in _read_impressions(log, split, rows, period_s)
    ]
    assert collections.Counter(read) == collections.Counter(plain)
    assert max(len(impression[4]) for impression in read) == 4, "the limit was never met"


@BOTH
def test_log_is_valid_and_cut_by_time(tmp_path, name):
    rows = movielens_set.ratings()
    log = _load(tmp_path, rows, name)
    validate(log)
    assert log.name == name
    seconds = sorted(row.second for row in rows)
    cut = seconds[int(len(rows) * 0.8)]
    assert log.train.n_impressions == sum(second < cut for second in seconds)
    assert log.train.n_impressions + log.test.n_impressions == len(rows)
    assert log.notes["train_impressions"] == log.train.n_impressions
    assert log.notes["items_without_image"] == 1
    assert log.notes["movies_without_year"] == 1


def test_groups_hold_one_user_and_share_a_second(tmp_path):
    rows = movielens_set.ratings()
    log = _load(tmp_path, rows)
    pairs = {(row.user, row.second) for row in rows}
    assert log.train.n_groups + log.test.n_groups == len(pairs) < len(rows)


def test_both_formats_give_the_same_log(tmp_path):
    one = _load(tmp_path / "1m", name=ML_1M.name)
    other = _load(tmp_path / "100k", name=ML_100K.name)
    for split in ("train", "test"):
        for field in dataclasses.fields(one.train):
            a, b = (getattr(log.split(split), field.name) for log in (one, other))
            if field.name == "user_ids_GF":  # occupations are named, not numbered, in 100K
                a, b = np.delete(a, 2, axis=1), np.delete(b, 2, axis=1)
            if field.name != "probability_B":
                np.testing.assert_array_equal(a, b, err_msg=field.name)
    np.testing.assert_array_equal(one.items.image_N, other.items.image_N)
    np.testing.assert_array_equal(one.items.ids_NF[:, :2], other.items.ids_NF[:, :2])


def _past(log: ClickLog, rows: list[Rating], until: int):
    """Everything that a model is told about the ratings before `until`, by (user, movie)."""
    past = {}
    for split in ("train", "test"):
        for impression in _read_impressions(log, split, rows, 1):
            if impression[1] < until:
                past[impression[0], impression[2]] = impression[4:]
    return past


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_nothing_of_the_past_depends_on_what_comes_later(tmp_path, share):
    """Stars and movies of later ratings change, more are added: earlier inputs stay."""
    rows = movielens_set.ratings()
    until = sorted(row.second for row in rows)[int(share * len(rows))]
    before = _load(tmp_path / "before", rows)
    changed = [row._replace(stars=6 - row.stars) if row.second >= until else row for row in rows]
    rated = {(row.user, row.movie) for row in rows}
    for user in range(1, movielens_set.USERS + 1):
        movies = map(movielens_set.movie_id, range(movielens_set.MOVIES))
        new = next(movie for movie in movies if (user, movie) not in rated)
        changed.append(Rating(user, new, 5, until))
    after = _load(tmp_path / "after", changed)
    past = _past(before, rows, until)
    assert len(past) > 200
    assert past == _past(after, changed, until)
    assert _past(before, rows, 2**62) != _past(after, changed, 2**62)


def test_cold_movies_are_not_rated_in_train(tmp_path):
    rows = movielens_set.ratings()
    cut = sorted(row.second for row in rows)[int(len(rows) * 0.8)]
    late = movielens_set.movie_id(5)
    rows = [row for row in rows if row.movie != late or row.second >= cut]
    log = _load(tmp_path, rows)
    shown = {int(item) for item in log.train.item_B}
    np.testing.assert_array_equal(log.test.cold_B, [int(i) not in shown for i in log.test.item_B])
    assert 0 < log.test.cold_B.sum() < log.test.n_impressions


@BOTH
def test_latin_1_titles_years_and_genres_are_kept(tmp_path, name):
    movielens_set.write_set(tmp_path, name)
    movies = read_movies(tmp_path, format_of(tmp_path))
    assert movies.titles == tuple(map(movielens_set.title, range(movielens_set.MOVIES)))
    assert movies.year_N.tolist()[:3] == [0, 1932, 1933]
    expected = [set(movielens_set.genres(movie)) for movie in range(movielens_set.MOVIES)]
    assert [set(genres) for genres in movies.genres] == expected


def test_genres_as_a_set_and_as_the_first(tmp_path):
    log = _load(tmp_path)
    columns = [field.name for field in log.fields_of("item")]
    for name, of_movie in (
        ("genres", lambda movie: tuple(movielens_set.genres(movie))),
        ("genre", lambda movie: movielens_set.genres(movie)[0]),
    ):
        keys = log.items.ids_NF[:, columns.index(name)].tolist()
        values = [of_movie(movie) for movie in range(movielens_set.MOVIES)]
        assert len(set(zip(keys, values, strict=True))) == len(set(keys)) == len(set(values))


def test_profile_keys_follow_the_brackets_of_1m(tmp_path):
    log = _load(tmp_path, name=ML_100K.name)
    columns = [field.name for field in log.fields_of("user")]
    brackets = (0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6)  # of the ages of `movielens_set.age`
    ages = log.train.user_ids_GF[:, columns.index("age")]
    assert ages.tolist() == [brackets[(user + 1) % 14] for user in log.train.user_G]
    regions = log.train.user_ids_GF[:, columns.index("zip_region")]
    assert regions.tolist() == [(3, 1, 0, 2)[(user + 1) % 4] for user in log.train.user_G]


def test_movies_get_their_own_posters_whatever_their_order(tmp_path):
    movielens_set.write_set(tmp_path)
    order = np.random.default_rng(0).permutation(movielens_set.MOVIES)[:30]
    movielens_set.write_posters(tmp_path, order)
    log = movielens.load(str(tmp_path))
    has = log.items.image_N != NO_IMAGE
    assert set(np.flatnonzero(has)) == set(order)
    rows = in_memory(log.features).rows_VD[log.items.image_N[has]]
    np.testing.assert_array_equal(rows, movielens_set.poster_rows()[has])


def test_integer_posters_keep_their_scale(tmp_path):
    movielens_set.write_set(tmp_path)
    rows = np.full((movielens_set.MOVIES - 1, 3), 7, np.uint8)
    scale = np.linspace(0.1, 0.2, len(rows)).astype(np.float32)
    movielens_set.write_posters(tmp_path, rows=rows, scale=scale)
    features = in_memory(movielens.load(str(tmp_path)).features)
    np.testing.assert_array_equal(features.scale_V, scale)
    np.testing.assert_array_equal(features.rows_VD, rows)


def test_shuffled_posters_leave_everything_else(tmp_path):
    log = _load(tmp_path)
    shuffled = movielens.load(str(tmp_path), permute_images=True, seed=3)
    assert not np.array_equal(log.items.image_N, shuffled.items.image_N)
    np.testing.assert_array_equal(np.sort(log.items.image_N), np.sort(shuffled.items.image_N))
    np.testing.assert_array_equal(log.items.ids_NF, shuffled.items.ids_NF)
    np.testing.assert_array_equal(log.train.context_ids_BF, shuffled.train.context_ids_BF)


def test_image_files_are_found_by_movie_id(tmp_path):
    movielens_set.write_set(tmp_path)
    (tmp_path / "posters").mkdir()
    for name in ("1.jpg", "4.jpg", "2.jpg", "note.txt"):
        (tmp_path / "posters" / name).write_bytes(b"")
    ids = np.array([movielens_set.movie_id(movie) for movie in range(movielens_set.MOVIES)])
    assert sorted(poster_files(tmp_path, ids)) == [1, 4]
    assert movielens.load(str(tmp_path)).notes["poster_files"] == 2
