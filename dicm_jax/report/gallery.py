"""Sampled users: photos of their behaviors, with the attention under two candidates."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.photos import DRAWN, photo, symbols

LARGEST_PHOTO = 96 * 1024
"""Bytes; a larger file is not put into the page."""
PAINTS = ("var(--s3)", "var(--s1)", "var(--s2)", "var(--s4)")
"""Colors of the bars, by query."""
_QUERIES = {"image": "the candidate's photo", "ids": "the candidate's ID fields"}


def gallery(pictures: Mapping[str, Any]) -> Markup:
    """Cards of all sampled users; each photo is in the page once."""
    photos = _photos(pictures["photos"])
    return join(
        [
            symbols(photos, pictures["looks"]),
            *(_card(number, user) for number, user in enumerate(pictures["users"], 1)),
        ]
    )


def caption(pictures: Mapping[str, Any]) -> str:
    """What the pictures are, in words."""
    photos, all_rows = _photos(pictures["photos"]), pictures["looks"]
    if len(photos) == len(all_rows):
        return "The photos are those of the log."
    if not photos:
        return f"The log has no photo files: each picture is {DRAWN}."
    without = len(all_rows) - len(photos)
    return f"{without} of {len(all_rows)} images have no (small) photo file: these are {DRAWN}."


def _photos(paths: Mapping[str, str]) -> dict[str, bytes]:
    found = {}
    for row, path in paths.items():
        file = Path(path)
        if file.is_file() and file.stat().st_size <= LARGEST_PHOTO:
            found[row] = file.read_bytes()
    return found


def _card(number: int, user: Mapping[str, Any]) -> Markup:
    shown, of_all = len(user["behaviors"]), user["all_behaviors"]
    which = f"the newest {shown} of {of_all} behaviors" if shown < of_all else f"{shown} behaviors"
    return el(
        "article",
        el("h3", f"User {number}", el("small", f"{which}, oldest first")),
        *(_row(user, impression) for impression in user["impressions"]),
        class_="user",
    )


def _row(user: Mapping[str, Any], impression: Mapping[str, Any]) -> Markup:
    clicked = impression["clicked"]
    verdict = el("span", "clicked" if clicked else "not clicked", class_=f"verdict c{clicked:d}")
    percent = f"{100 * impression['probability']:.0f} %"
    candidate = el(
        "div",
        photo(impression["row"], f"candidate, {'clicked' if clicked else 'not clicked'}"),
        el("div", verdict, el("b", percent), class_="said"),
        class_="candidate",
    )
    weights = impression["weights"]
    most = {name: max(map(abs, of_query), default=0.0) for name, of_query in weights.items()}
    behaviors = [
        _behavior(
            behavior["row"],
            {name: (of_query[place], most[name]) for name, of_query in weights.items()},
        )
        for place, behavior in enumerate(user["behaviors"])
    ]
    return el("div", candidate, el("div", *behaviors, class_="behaviors"), class_="impression")


def _behavior(row: int, weights: Mapping[str, tuple[float, float]]) -> Markup:
    shares = {name: value / most if most else 0.0 for name, (value, most) in weights.items()}
    leading = abs(next(iter(shares.values()), 1.0))
    said = ", ".join(f"{_asked_by(n)} {value:.3f}" for n, (value, _) in weights.items())
    bars = [
        el(
            "span",
            class_="weight" + (" negative" if share < 0 else ""),
            style=f"height:{max(2.0, 100 * abs(share)):.0f}%;--q:{paint}",
        )
        for share, paint in zip(shares.values(), itertools.cycle(PAINTS), strict=False)
    ]
    return el(
        "div",
        el("div", *bars, class_="weights"),
        el(
            "div",
            photo(row, f"behavior; {said}" if said else "behavior"),
            style=f"opacity:{0.3 + 0.7 * leading:.2f}",
        ),
        class_="behavior",
        title=said or None,
    )


def queries(pictures: Mapping[str, Any]) -> list[str]:
    """The queries that pictures show, in words, in the order of their bars."""
    for user in pictures["users"]:
        for impression in user["impressions"]:
            return [_asked_by(name) for name in impression["weights"]]
    return []


def _asked_by(name: str) -> str:
    """A query in words; ``"text/ids"`` is the content that is looked at, and the query."""
    content, _, query = name.rpartition("/")
    of_what = "" if content in ("", "image") else f" to {content}"
    return f"attention{of_what} asked for by {_QUERIES.get(query, query)}"
