"""The files of MovieLens-1M and MovieLens-100K: read, checked, and turned into integers.

As GroupLens publishes them, https://grouplens.org/datasets/movielens/:

    1M     ratings.dat   UserID::MovieID::Rating::Timestamp
           users.dat     UserID::Gender::Age::Occupation::Zip-code
           movies.dat    MovieID::Title::Genres        genres by name, joined with |
    100K   u.data        user, movie, rating, timestamp, joined with tabs
           u.user        user|age|gender|occupation|zip
           u.item        movie|title|release date|video date|URL|19 flags, one for each genre

All are latin-1, without a header. Age is a bracket in 1M and years in 100K; here it is 1M's bracket
in both.

Shape legend
    N   movies        U   users        E   ratings
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dicm_jax.data.days import last_second
from dicm_jax.errors import DataError

GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The genres that the 19 flags of a line of ``u.item`` stand for, in their order."""

AGE_BRACKETS = (1, 18, 25, 35, 45, 50, 56)
"""The least age of each bracket, by which 1M names it."""

RATINGS = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Format:
    """One of the two sets: what its files are called, and how a line is cut into parts."""

    name: str
    ratings: str
    users: str
    movies: str
    separators: tuple[str, str, str]  # of ratings, users, movies
    parts: tuple[int, int, int]


ML_1M = Format(
    "movielens-1m", "ratings.dat", "users.dat", "movies.dat", ("::", "::", "::"), (4, 5, 3)
)
ML_100K = Format("movielens-100k", "u.data", "u.user", "u.item", ("\t", "|", "|"), (4, 5, 24))


@dataclasses.dataclass(frozen=True)
class Movies:
    """The catalogue: IDs as the files number them, titles, year (0: not in the title), genres."""

    id_N: np.ndarray
    titles: tuple[str, ...]
    year_N: np.ndarray
    genres: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Users:
    """IDs as the files number them, and the texts of the profile; age is a bracket."""

    id_U: np.ndarray
    profile: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Ratings:
    """One rating each, in the order of the file: index of user and movie, stars, seconds."""

    user_E: np.ndarray
    movie_E: np.ndarray
    rating_E: np.ndarray
    second_E: np.ndarray


def format_of(root: Path) -> Format:
    """Which of the two sets lies in `root`, by its file of ratings.

    Raises:
      DataError: the folder is not there, or holds neither file of ratings, or both.
    """
    if not root.is_dir():
        raise DataError(
            f"MovieLens data at {root}: no such folder; give the folder that holds "
            f"{ML_1M.ratings} (1M) or {ML_100K.ratings} (100K)"
        )
    present = [known for known in (ML_1M, ML_100K) if (root / known.ratings).is_file()]
    if len(present) != 1:
        found = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
        raise DataError(
            f"MovieLens data at {root}: {len(present)} of {ML_1M.ratings} (1M) and "
            f"{ML_100K.ratings} (100K) found among {found}; there must be one of the two"
        )
    return present[0]


def read_movies(root: Path, form: Format) -> Movies:
    """Reads the catalogue, in the order of the file.

    Raises:
      DataError: missing file, a line with too few or too many parts, an ID that is not a number or
        comes twice, a genre flag other than 0 and 1, no movie.
    """
    path = root / form.movies
    lines = _lines(path, form.separators[2], form.parts[2])
    id_N = _integers(path, lines, 0, "a movie's number")
    _check_once(path, id_N, "movie")
    titles = tuple(line[1] for line in lines)
    genres = _genres_of_flags(path, lines) if form is ML_100K else _genres_of_names(lines)
    return Movies(id_N, titles, np.array([_year(title) for title in titles], np.int64), genres)


def read_users(root: Path, form: Format) -> Users:
    """Reads the profiles, in the order of the file.

    Raises:
      DataError: as `read_movies`, or an age that is not a number.
    """
    path = root / form.users
    lines = _lines(path, form.separators[1], form.parts[1])
    id_U = _integers(path, lines, 0, "a user's number")
    _check_once(path, id_U, "user")
    at = {"age": 1, "gender": 2} if form is ML_100K else {"gender": 1, "age": 2}
    age_U = _integers(path, lines, at["age"], "an age in years")
    bracket_U = np.maximum(np.searchsorted(AGE_BRACKETS, age_U, side="right") - 1, 0)
    profile = {
        "gender": np.array([line[at["gender"]] for line in lines]),
        "age": np.array(AGE_BRACKETS)[bracket_U],
        "occupation": np.array([line[3] for line in lines]),
        "zip_region": np.array([line[4][:1] for line in lines]),
    }
    return Users(id_U, profile)


def read_ratings(root: Path, form: Format, users: Users, movies: Movies) -> Ratings:
    """Reads the ratings, rows in the order of the file.

    Raises:
      DataError: missing file, a line with too few or too many parts, a rating that is not one of
        `RATINGS`, a time that is not a number, negative or in the future, a user or movie that the
        other files lack, no line.
    """
    path = root / form.ratings
    lines = _lines(path, form.separators[0], form.parts[0])
    rating_E = _integers(path, lines, 2, "a rating, 1 to 5 whole stars")
    _check(
        path,
        np.isin(rating_E, RATINGS),
        lambda line: f"rating {rating_E[line]}; a rating is 1 to 5 whole stars",
    )
    second_E = _integers(path, lines, 3, "a time in seconds since 1970")
    latest = last_second()
    _check(
        path,
        (second_E >= 0) & (second_E <= latest),
        lambda line: (
            f"time {second_E[line]} is not between 0 and {latest}, tomorrow, in seconds since 1970"
        ),
    )
    user_E = _index(path, _integers(path, lines, 0, "a user's number"), users.id_U, form.users)
    movie_E = _index(path, _integers(path, lines, 1, "a movie's number"), movies.id_N, form.movies)
    return Ratings(user_E, movie_E, rating_E, second_E)


def poster_files(root: Path, movie_id_N: np.ndarray) -> dict[int, Path]:
    """The image files ``posters/ID.jpg`` of the movies given, by movie ID; empty without such."""
    folder = root / "posters"
    paths = {movie: folder / f"{movie}.jpg" for movie in movie_id_N.tolist()}
    return {movie: path for movie, path in paths.items() if path.is_file()}


def _lines(path: Path, separator: str, parts: int) -> list[list[str]]:
    """The lines of a file, cut into parts; a last empty line is none."""
    if not path.is_file():
        found = sorted(entry.name + "/" * entry.is_dir() for entry in path.parent.iterdir())
        raise DataError(f"{path}: no such file; found {found}; put {path.name} beside them")
    texts = path.read_bytes().decode("latin-1").replace("\r\n", "\n").removesuffix("\n").split("\n")
    lines = [text.split(separator) for text in texts]
    wrong = next((at for at, line in enumerate(lines) if len(line) != parts), None)
    if wrong is not None:
        raise DataError(
            f"{path}, line {wrong + 1}: {len(lines[wrong])} parts between {separator!r} where "
            f"{parts} belong: {texts[wrong][:80]!r}; repair that line or download the file again"
        )
    return lines


def _integers(path: Path, lines: list[list[str]], part: int, what: str) -> np.ndarray:
    """One part of every line as int64."""
    texts = [line[part] for line in lines]
    try:
        return np.array(texts).astype(np.int64)
    except (ValueError, OverflowError):
        wrong = next(at for at, text in enumerate(texts) if not re.fullmatch(r"-?\d{1,18}", text))
        raise DataError(
            f"{path}, line {wrong + 1}: {texts[wrong]!r} is not {what}; repair that line or "
            "download the file again"
        ) from None


def _check(path: Path, holds_E: np.ndarray, says: Callable[[int], str]) -> None:
    if not holds_E.all():
        line = int(np.argmin(holds_E))
        more = int((~holds_E).sum())
        raise DataError(f"{path}, line {line + 1}: {says(line)} ({more} such lines)")


def _check_once(path: Path, ids: np.ndarray, what: str) -> None:
    first = np.zeros(len(ids), bool)
    first[np.unique(ids, return_index=True)[1]] = True
    _check(path, first, lambda line: f"{what} {ids[line]} is listed before; keep one line for each")


def _index(path: Path, id_E: np.ndarray, known: np.ndarray, listed_in: str) -> np.ndarray:
    """Position of each ID in `known`, int32."""
    order = np.argsort(known)
    place_E = np.minimum(np.searchsorted(known[order], id_E), len(known) - 1)
    index_E = order[place_E].astype(np.int32)
    _check(
        path,
        known[index_E] == id_E,
        lambda line: f"{id_E[line]} is not in {listed_in}; the files must belong together",
    )
    return index_E


def _year(title: str) -> int:
    found = re.search(r"\((\d{4})\)\s*$", title)
    return int(found[1]) if found else 0


def _genres_of_names(lines: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line[2].split("|")) for line in lines)


def _genres_of_flags(path: Path, lines: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    flags = [line[5:] for line in lines]
    _check(
        path,
        np.array([set(line) <= {"0", "1"} for line in flags]),
        lambda line: f"genre flags {'|'.join(flags[line])}; each is 0 or 1",
    )
    return tuple(
        tuple(name for name, flag in zip(GENRES_100K, line, strict=True) if flag == "1")
        for line in flags
    )
