"""Reader of MovieLens-1M and MovieLens-100K: ratings as clicks, posters as images.

The set as GroupLens publishes it (`dicm_jax.data.movielens.files`), with an array of poster
features beside it. The protocol:

- Impression: a rating. Clicked: 4 or 5 stars. Not clicked: 1, 2 or 3 stars.
- Test: the newest `test_share` of the ratings, cut at a point in time; all earlier ones are train.
- Behaviors of an impression: the movies that the user clicked in strictly earlier periods, the
  newest `behaviors` of them, oldest first. A period is `period_s` seconds.
- Group: the ratings of one user in one period, which share all of that. The default period is one
  second: ratings of the same second, which came together, are a group. With a longer period groups
  are larger, but what a user clicked within it is not seen, and users rate many movies in one
  sitting: with ``period_s=86400`` (a day) behaviors are those of earlier days only.
- Statistics, as log-bucketed ID fields, know strictly earlier periods only: a user's number of
  clicks and minutes since the last; a movie's clicks and ratings so far.
- Genres: a movie has several, an ID field one value. So there are two fields: ``genres`` is the
  whole set as one value (Comedy|Romance differs from Comedy), ``genre`` the first that is listed.
- The region of a user is the first character of the zip code.

Shape legend
    N   movies           U   users            E   ratings
    G   groups           B   impressions (one split)
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicm_jax.data.features_array import ArrayNames, read_features
from dicm_jax.data.movielens.config import MovieLensConfig
from dicm_jax.data.movielens.files import (
    Movies,
    Ratings,
    Users,
    format_of,
    poster_files,
    read_movies,
    read_ratings,
    read_users,
)
from dicm_jax.data.movielens.groups import (
    CONTEXT_FIELDS,
    HISTORY_FIELDS,
    LIKED,
    PROFILE_FIELDS,
    grouped,
    world,
)
from dicm_jax.data.permute import permuted_images
from dicm_jax.data.schema import (
    NO_IMAGE,
    ClickLog,
    Features,
    GroupedImpressions,
    IdField,
    Items,
)
from dicm_jax.data.statistics import N_BUCKETS
from dicm_jax.errors import DataError

_MOVIE = "movie"


def load(
    path: str,
    *,
    behaviors: int = 50,
    permute_images: bool = False,
    seed: int = 0,
    config: MovieLensConfig | None = None,
) -> ClickLog:
    """Reads the set in folder `path`, 1M or 100K by the files found there, as a click log.

    The poster array has ``movie_id`` (as the files number them), ``rows`` and, where the rows are
    integers, usually ``scale``; a movie that it lacks has no image. The image files themselves,
    ``posters/ID.jpg``, are for reports and may be missing. ``cold_B`` of the test split marks
    movies that nobody rated in train.

    Args:
      path: the folder.
      behaviors: the most behaviors of a group; older clicks are left out.
      permute_images: give the movies each other's posters, shuffled by `seed`; IDs stay.
      seed: of the shuffling.
      config: the settings of this reader; None takes the defaults.

    Raises:
      DataError: missing file, a line that does not fit the format (file and line number), unknown
        movie or user, bad rating or time, a movie twice, NaN in the posters, a split without a
        rating or without a click.

    Example:
      >>> movielens.load("data/ml-1m").fields_of("item")[0].name
      'movie'
    """
    root, settings = Path(path), config or MovieLensConfig()
    form = format_of(root)
    movies, users = read_movies(root, form), read_users(root, form)
    ratings = read_ratings(root, form, users, movies)
    movie_ids = pa.array([str(movie) for movie in movies.id_N])
    names = ArrayNames(id="movie_id", item=_MOVIE, catalogue=form.movies)
    features, image_N = read_features(root, settings.posters, movie_ids, names)

    item_sizes, ids_NF = _item_ids(movies)
    user_sizes, profile_UF = _profile_ids(users)
    past = world(ratings, profile_UF, len(movies.id_N), settings.period_s)
    train_E = _train(ratings, past.period_E, settings.test_share)
    _check_clicks(root, ratings, train_E)
    train = grouped(past, train_E, behaviors=behaviors)
    test = grouped(past, ~train_E, behaviors=behaviors)
    unseen_N = np.bincount(train.item_B, minlength=len(movies.id_N)) == 0
    test = dataclasses.replace(test, cold_B=unseen_N[test.item_B])
    photos = _photos(root, movies, image_N)
    notes = {
        **_catalogue_notes(movies, features, image_N),
        "users": len(users.id_U),
        "poster_files": len(photos),
        "click_share": float(np.mean(ratings.rating_E >= LIKED)),
        **_split_notes("train", train, behaviors),
        **_split_notes("test", test, behaviors),
    }
    if permute_images:
        image_N = permuted_images(image_N, seed)
    statistics = dict.fromkeys((*HISTORY_FIELDS, *CONTEXT_FIELDS), N_BUCKETS)
    return ClickLog(
        name=form.name,
        fields=_fields(),
        vocabulary_sizes=item_sizes | user_sizes | statistics,
        items=Items(ids_NF=ids_NF, image_N=image_N),
        features=features,
        train=train,
        test=test,
        notes={name: float(value) for name, value in notes.items()},
        photo=photos.get if photos else None,
    )


def _fields() -> tuple[IdField, ...]:
    return (
        *(IdField(name, name, "user") for name in (*PROFILE_FIELDS, *HISTORY_FIELDS)),
        *(IdField(name, name, "item") for name in (_MOVIE, "year", "genres", "genre")),
        *(IdField(name, name, "context") for name in CONTEXT_FIELDS),
        IdField("behavior_movie", _MOVIE, "behavior"),
        IdField("behavior_genres", "genres", "behavior"),
    )


def _item_ids(movies: Movies) -> tuple[dict[str, int], np.ndarray]:
    """Sizes and keys of the item level fields; the key of a movie is its place in the file."""
    columns = {
        _MOVIE: np.arange(len(movies.id_N)),
        "year": movies.year_N,
        "genres": np.array(["|".join(genres) for genres in movies.genres]),
        "genre": np.array([genres[0] if genres else "" for genres in movies.genres]),
    }
    return _keys(columns)


def _profile_ids(users: Users) -> tuple[dict[str, int], np.ndarray]:
    return _keys({name: users.profile[name] for name in PROFILE_FIELDS})


def _keys(columns: dict[str, np.ndarray]) -> tuple[dict[str, int], np.ndarray]:
    """Each column's values numbered in sorted order: vocabulary sizes, and int32 keys."""
    numbered = {name: np.unique(values, return_inverse=True) for name, values in columns.items()}
    sizes = {name: len(values) for name, (values, _) in numbered.items()}
    return sizes, np.column_stack([keys for _, keys in numbered.values()]).astype(np.int32)


def _train(ratings: Ratings, period_E: np.ndarray, test_share: float) -> np.ndarray:
    """Which ratings are older than the cut; no period is divided by it."""
    first_of_test = int(len(period_E) * (1 - test_share))
    cut = np.sort(period_E)[min(first_of_test, len(period_E) - 1)]
    train_E = period_E < cut
    if not train_E.any():
        raise DataError(
            f"MovieLens data: test_share={test_share} leaves the train split empty: all "
            f"{len(period_E)} ratings lie in seconds {ratings.second_E.min()} to "
            f"{ratings.second_E.max()}, and no period is divided; set a smaller test_share or "
            "period_s"
        )
    return train_E


def _check_clicks(root: Path, ratings: Ratings, train_E: np.ndarray) -> None:
    for split, chosen_E in (("train", train_E), ("test", ~train_E)):
        liked = int((ratings.rating_E[chosen_E] >= LIKED).sum())
        if liked in (0, int(chosen_E.sum())):
            raise DataError(
                f"MovieLens data at {root}: {liked} of {int(chosen_E.sum())} ratings of the "
                f"{split} split are clicks ({LIKED} stars or more); it needs clicks and others: "
                "give more ratings or another test_share"
            )


def _photos(root: Path, movies: Movies, image_N: np.ndarray) -> dict[int, Path]:
    """The image file of each row of the posters' array that has one."""
    files = poster_files(root, movies.id_N)
    rows = zip(movies.id_N.tolist(), image_N.tolist(), strict=True)
    return {row: files[movie] for movie, row in rows if movie in files and row != NO_IMAGE}


def _catalogue_notes(movies: Movies, features: Features, image_N: np.ndarray) -> dict[str, int]:
    pictured = int((image_N != NO_IMAGE).sum())
    return {
        "movies": len(movies.id_N),
        "movies_without_year": int((movies.year_N == 0).sum()),
        "items_without_image": len(image_N) - pictured,
        "features_without_item": len(features.rows_VD) - pictured,
    }


def _split_notes(name: str, split: GroupedImpressions, behaviors: int) -> dict[str, int | float]:
    lengths_G = np.diff(split.behavior_offsets)
    return {
        f"{name}_impressions": split.n_impressions,
        f"{name}_groups": split.n_groups,
        f"{name}_users": len(np.unique(split.user_G)),
        f"{name}_mean_behaviors": float(lengths_G.mean()),
        f"{name}_groups_without_behaviors": int((lengths_G == 0).sum()),
        f"{name}_groups_of_the_most_behaviors": int((lengths_G == behaviors).sum()),
    }
