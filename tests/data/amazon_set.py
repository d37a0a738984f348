"""A small set in the exact formats of the published Amazon review sets, written for tests."""

import datetime
import gzip
import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

USERS, PRODUCTS, DAYS, WIDTH = 25, 40, 112, 4096
FIRST_DATE = datetime.date(2013, 3, 1)
FIRST_DAY = (FIRST_DATE - datetime.date(1970, 1, 1)).days
CUT = str(FIRST_DATE + datetime.timedelta(days=84))  # where a week of the draw ends
STRANGERS = ("B00ZZZZZZ1", "B00ZZZZZZ2", "0700099867")
"""Products that have a picture and no review."""

LISTED = (*range(1, PRODUCTS), PRODUCTS + 3)
"""Products that metadata lists: not the first, but one that nobody reviewed."""

REVIEWS, LITERALS = "reviews_Men_5.json", "reviews_Men.json"
RATINGS, METADATA, FEATURES = "ratings_Men.csv", "meta_Men.json", "image_features_Men.b"


class Review(NamedTuple):
    user: str
    asin: str
    stars: float
    day: int  # since 1970

    @property
    def second(self) -> int:
        return self.day * 86_400


def asin(product: int) -> str:
    """Ten characters; books have a number, and order is not that of the products."""
    return f"{(product * 7) % PRODUCTS:010d}" if product % 5 == 0 else f"B00{product * 37:07X}"


def user_id(user: int) -> str:
    return f"A{user * 2654435761 % 2**32:012X}"


def reviews(seed: int = 0) -> list[Review]:
    """Reviews with repeats, popular products and late new ones; in no order."""
    rng = np.random.default_rng(seed)
    rows = []
    for day in range(DAYS):
        for _ in range(rng.integers(5, 12)):
            product = min(int(rng.exponential(7)) + day // 6, PRODUCTS - 1)
            user, stars = user_id(int(rng.integers(USERS))), float(rng.integers(1, 6))
            rows += [Review(user, asin(product), stars, FIRST_DAY + day)] * int(rng.integers(1, 3))
    return [rows[at] for at in rng.permutation(len(rows))]


def review_fields(row: Review) -> dict[str, Any]:
    """One object of a review file, with all that stands in it."""
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=row.day)
    return {
        "reviewerID": row.user,
        "asin": row.asin,
        "reviewerName": 'Günter "G" O\'Neil',
        "helpful": [8, 12],
        "reviewText": "It's \"soft\",\nand it fits — ünlike the last one, {see} 'there'.",
        "overall": row.stars,
        "summary": "Don't",
        "unixReviewTime": row.second,
        "reviewTime": f"{date:%m} {date.day}, {date.year}",
    }


def product_fields(product: int) -> dict[str, Any]:
    """One object of a metadata file; some products lack brand, price or categories."""
    fields: dict[str, Any] = {"asin": asin(product), "title": f'Men\'s "No. {product}" Shoe'}
    if product % 4:
        fields["price"] = 0.25 * 1.4**product
    fields["imUrl"] = "http://ecx.images-amazon.com/images/I/51fAmVkTbyL._SY300_.jpg"
    fields["related"] = {"also_bought": [asin(0), STRANGERS[0]]}
    fields["salesRank"] = {"Clothing": 211836 + product}
    if product % 3:
        fields["brand"] = f"Brand & Co {product % 6}"
    if product % 7:
        sex = ("Men", "Women", "Boys")[product % 3]
        parts = ["Clothing, Shoes & Jewelry", sex, f"Shoes {product % 5}", f"Leaf {product % 9}"]
        fields["categories"] = [parts[: 1 + product % 4], ["Novelty"]]
    return fields


def write_json(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Strict JSON, an object a line."""
    _write(path, [json.dumps(fields) for fields in objects])


def write_literals(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """The literals of Python dictionaries, one a line."""
    _write(path, [repr(fields) for fields in objects])


def write_ratings(path: Path, rows: list[Review]) -> None:
    _write(path, [f"{row.user},{row.asin},{row.stars},{row.second}" for row in rows])


def feature_rows() -> np.ndarray:
    """Non-negative, as after the activation of a network, float32 ``[PRODUCTS, WIDTH]``."""
    rows_ND = np.random.default_rng(1).normal(size=(PRODUCTS, WIDTH)).astype(np.float32)
    return np.maximum(rows_ND, 0)


def write_features(path: Path, products: Iterable[int] = range(PRODUCTS - 1)) -> None:
    """The products given, then `STRANGERS`; record by record."""
    rows_ND = feature_rows()
    records = [(asin(product), rows_ND[product]) for product in products]
    records += [(stranger, np.full(WIDTH, 0.5, np.float32)) for stranger in STRANGERS]
    with path.open("wb") as file:
        for name, row_D in records:
            file.write(name.encode("ascii") + struct.pack(f"<{WIDTH}f", *row_D.tolist()))


def write_set(folder: Path, rows: list[Review] | None = None) -> Path:
    """The 5-core layout: reviews in JSON, metadata in literals, image features."""
    folder.mkdir(exist_ok=True)
    write_json(folder / REVIEWS, map(review_fields, reviews() if rows is None else rows))
    write_literals(folder / METADATA, map(product_fields, LISTED))
    write_features(folder / FEATURES)
    return folder


def pack(path: Path) -> None:
    """Replaces a file by its .gz."""
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def _write(path: Path, lines: list[str]) -> None:
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
