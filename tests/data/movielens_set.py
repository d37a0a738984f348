"""Small sets in the exact format of MovieLens-1M and MovieLens-100K, written for tests."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dicm_jax.data.movielens.files import AGE_BRACKETS, GENRES_100K, ML_1M

USERS, MOVIES, RATINGS, WIDTH = 25, 40, 900, 6
FIRST_SECOND = 956_703_932


class Rating(NamedTuple):
    user: int
    movie: int
    stars: int
    second: int


def movie_id(movie: int) -> int:
    """Numbers with gaps, not in order of their size, as the reader must bear."""
    return 3 * ((movie * 7) % MOVIES) + 1


def title(movie: int) -> str:
    return f"Amélie, Place {movie} (Fabuleux destin, Le)" + f" ({1931 + movie % 60})" * (movie > 0)


def genres(movie: int) -> list[str]:
    return [GENRES_100K[1 + (movie + at) % 18] for at in range(1 + movie % 3)]


def age(user: int) -> int:
    """Years, all brackets and both ends of each."""
    return (*AGE_BRACKETS, 17, 24, 34, 44, 49, 55, 73)[user % 14]


def zip_code(user: int) -> str:
    return ("V3N4P", "48067", "02460", "98107-2117")[user % 4]


def ratings(seed: int = 0) -> list[Rating]:
    """Sittings of several ratings, some in the same second; no (user, movie) twice."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(USERS * MOVIES)[:RATINGS]
    rows, seconds = [], rng.integers(FIRST_SECOND, FIRST_SECOND + 10**7, 120)
    for pair in pairs:
        second = int(seconds[rng.integers(120)] + 30 * rng.integers(4))
        rows.append(Rating(int(pair // MOVIES) + 1, movie_id(int(pair % MOVIES)), 0, second))
    return [row._replace(stars=int(rng.integers(1, 6))) for row in rows]


def write_1m(folder: Path, rows: list[Rating]) -> None:
    _write(folder / "ratings.dat", ["::".join(map(str, row)) for row in rows])
    _write(
        folder / "users.dat",
        [
            f"{user}::{'FM'[user % 2]}::{_bracket(age(user))}::{user % 21}::{zip_code(user)}"
            for user in range(1, USERS + 1)
        ],
    )
    _write(
        folder / "movies.dat",
        [f"{movie_id(at)}::{title(at)}::{'|'.join(genres(at))}" for at in range(MOVIES)],
    )


def write_100k(folder: Path, rows: list[Rating]) -> None:
    _write(folder / "u.data", ["\t".join(map(str, row)) for row in rows])
    _write(
        folder / "u.user",
        [
            f"{user}|{age(user)}|{'FM'[user % 2]}|job{user % 21}|{zip_code(user)}"
            for user in range(1, USERS + 1)
        ],
    )
    lines = []
    for at in range(MOVIES):
        flags = "|".join("1" if genre in genres(at) else "0" for genre in GENRES_100K)
        lines.append(f"{movie_id(at)}|{title(at)}|01-Jan-1995||http://us.imdb.com/M/{at}|{flags}")
    _write(folder / "u.item", lines)


def write_posters(folder: Path, movies: np.ndarray | None = None, **changes: Any) -> None:
    """float32 rows of the movies given (all but the last), in that order."""
    movies = np.arange(MOVIES - 1) if movies is None else movies
    parts: dict[str, Any] = {
        "movie_id": np.array([movie_id(int(movie)) for movie in movies]),
        "rows": poster_rows()[movies],
    }
    np.savez(folder / "posters.npz", **(parts | changes))


def poster_rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(MOVIES, WIDTH)).astype(np.float32)


def write_set(folder: Path, name: str = ML_1M.name, rows: list[Rating] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    rows = ratings() if rows is None else rows
    (write_1m if name == ML_1M.name else write_100k)(folder, rows)
    write_posters(folder)
    return folder


def _bracket(years: int) -> int:
    return max(bracket for bracket in AGE_BRACKETS if bracket <= years)


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
