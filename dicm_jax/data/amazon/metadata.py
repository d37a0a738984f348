"""What an Amazon set tells of its products: brand, categories and price.

A line of ``meta_*.json`` has asin and, each of them optional, brand, categories (paths through the
tree of categories, each a list of names) and price (dollars). ``salesRank`` and ``related`` are
passed over on purpose: both are as of the day on which the set was collected, after all its
reviews, so they know what a model is to predict.

Shape legend
    N   products of the log
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from dicm_jax.data.amazon.files import objects
from dicm_jax.data.statistics import bucket
from dicm_jax.errors import DataError

FIELDS = ("brand", "section", "category", "price")
"""ID fields made of it: brand; the first two names of the first path; its last; log-bucketed price.

A product without one has the empty text, or price bucket 0.
"""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is known of the products of a log.

    Attributes:
      columns: the values of `FIELDS`, each ``[N]``.
      listed_N: bool, whether the file lists the product.
      unreviewed: products that the file lists and the log lacks.
    """

    columns: dict[str, np.ndarray]
    listed_N: np.ndarray
    unreviewed: int


def read_metadata(path: Path | None, asins: list[str]) -> Metadata:
    """Reads the metadata of the products `asins`; without a file nothing is known of any.

    Raises:
      DataError: an unreadable file or line, a line without an asin, a product listed twice, brand,
        categories or price of another type, a negative price; with the number of the line.
    """
    place = {asin: at for at, asin in enumerate(asins)}
    listed_N = np.zeros(len(asins), bool)
    texts = {name: [""] * len(asins) for name in FIELDS[:-1]}
    cents_N = np.zeros(len(asins), np.int64)
    lines: dict[str, int] = {}
    for number, fields in objects(path) if path else ():
        where = f"{path}, line {number}"
        asin = _asin(where, fields, lines)
        lines[asin] = number
        brand, names, price = _brand(where, fields), _path(where, fields), _price(where, fields)
        at = place.get(asin)
        if at is None:
            continue
        listed_N[at] = True
        texts["brand"][at] = brand
        texts["section"][at] = " > ".join(names[:2])
        texts["category"][at] = names[-1] if names else ""
        cents_N[at] = round(100 * price)
    columns = {name: np.array(values, np.str_) for name, values in texts.items()}
    return Metadata(
        columns=columns | {"price": bucket(cents_N)},
        listed_N=listed_N,
        unreviewed=len(lines) - int(listed_N.sum()),
    )


def _asin(where: str, fields: dict[str, Any], lines: dict[str, int]) -> str:
    asin = fields.get("asin")
    if not isinstance(asin, str) or not asin:
        raise DataError(f"{where}: asin is {asin!r}; every line must name its product")
    if asin in lines:
        raise DataError(
            f"{where}: asin {asin!r} is listed before, in line {lines[asin]}; keep one line for "
            "each product"
        )
    return asin


def _brand(where: str, fields: dict[str, Any]) -> str:
    brand = fields.get("brand")
    if brand is not None and not isinstance(brand, str):
        raise DataError(f"{where}: brand is {brand!r}; it must be text, or be left out")
    return brand or ""


def _path(where: str, fields: dict[str, Any]) -> list[str]:
    """The first path through the categories; empty if there is none."""
    paths = fields.get("categories") or []
    lists = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
    if not lists or not all(isinstance(name, str) for path in paths for name in path):
        raise DataError(
            f"{where}: categories is {paths!r:.80}; it must be a list of lists of names, or be "
            "left out"
        )
    return paths[0] if paths else []


def _price(where: str, fields: dict[str, Any]) -> float:
    """Dollars; 0 where nothing is said."""
    price = fields.get("price")
    if price is None:
        return 0.0
    if type(price) not in (int, float) or not math.isfinite(price) or price < 0:
        raise DataError(
            f"{where}: price is {price!r}; it must be dollars, a number from 0 on, or be left out"
        )
    return float(price)
