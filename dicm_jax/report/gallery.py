"""Sampled users: photos of their behaviors, with the attention under two candidates."""

import base64
import colorsys
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.report.markup import Markup, el, join

LARGEST_PHOTO = 96 * 1024
"""Bytes; a larger file is not put into the page."""
PAINTS = ("var(--s3)", "var(--s1)", "var(--s2)", "var(--s4)")
"""Colors of the bars, by query."""
_QUERIES = {"image": "the candidate's photo", "ids": "the candidate's ID fields"}
_WIDTH, _HEIGHT = 64, 96


def gallery(pictures: Mapping[str, Any]) -> Markup:
    """Cards of all sampled users; each photo is in the page once."""
    photos = _photos(pictures["photos"])
    symbols = [
        _symbol(row, _image(photos[row]) if row in photos else _swatch(look))
        for row, look in pictures["looks"].items()
    ]
    symbols.append(_symbol(str(NO_IMAGE), _nothing()))
    return join(
        [
            el("svg", *symbols, class_="symbols", aria_hidden="true", width=0, height=0),
            *(_card(number, user) for number, user in enumerate(pictures["users"], 1)),
        ]
    )


def caption(pictures: Mapping[str, Any]) -> str:
    """What the pictures are, in words."""
    photos, all_rows = _photos(pictures["photos"]), pictures["looks"]
    if len(photos) == len(all_rows):
        return "The photos are those of the log."
    drawn = (
        "drawn from the first principal coordinates of its content row, so that rows that are alike"
        " look alike"
    )
    if not photos:
        return f"The log has no photo files: each picture is {drawn}."
    without = len(all_rows) - len(photos)
    return f"{without} of {len(all_rows)} images have no (small) photo file: these are {drawn}."


def _photos(paths: Mapping[str, str]) -> dict[str, bytes]:
    found = {}
    for row, path in paths.items():
        file = Path(path)
        if file.is_file() and file.stat().st_size <= LARGEST_PHOTO:
            found[row] = file.read_bytes()
    return found


def _symbol(row: str, drawing: Markup) -> Markup:
    return el("symbol", drawing, id=f"row{row}", viewbox=f"0 0 {_WIDTH} {_HEIGHT}")


def _image(photo: bytes) -> Markup:
    kind = "png" if photo.startswith(b"\x89PNG") else "jpeg"
    data = f"data:image/{kind};base64,{base64.b64encode(photo).decode()}"
    return el(
        "image", href=data, width=_WIDTH, height=_HEIGHT, preserveaspectratio="xMidYMid slice"
    )


def _nothing() -> Markup:
    return join(
        [
            el("rect", width=_WIDTH, height=_HEIGHT, class_="nophoto"),
            el("text", "no photo", x=32, y=51, text_anchor="middle", class_="axis"),
        ]
    )


def _swatch(look: Sequence[float]) -> Markup:
    """A flower: ground, hue, petals and their depth from six coordinates."""
    hue = math.atan2(look[1], look[0]) / math.tau % 1
    fullness = min(math.hypot(look[0], look[1]) / 2.5, 1)
    ground = _rgb(hue, 0.86 - 0.06 * math.tanh(look[2]), 0.25 + 0.4 * fullness)
    petal = _rgb(hue + 0.06 * math.tanh(look[3]), 0.45, 0.35 + 0.45 * fullness)
    petals = 3 + round(2.5 * (1 + math.tanh(look[2])))
    depth = 0.18 + 0.14 * (1 + math.tanh(look[3]))
    turn = math.pi / 2 * math.tanh(look[4])
    size = 21 + 5 * math.tanh(look[5])
    points = []
    for number in range(72):
        angle = math.tau * number / 72
        radius = size * (1 - depth + depth * math.cos(petals * angle))
        points.append(
            f"{32 + radius * math.cos(angle + turn):.1f},{48 + radius * math.sin(angle + turn):.1f}"
        )
    return join(
        [
            el("rect", width=_WIDTH, height=_HEIGHT, fill=ground),
            el("path", d=f"M{'L'.join(points)}Z", fill=petal),
            el("circle", cx=32, cy=48, r=size * 0.2, fill=ground),
        ]
    )


def _rgb(hue: float, lightness: float, saturation: float) -> str:
    channels = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


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
        _photo(impression["row"], f"candidate, {'clicked' if clicked else 'not clicked'}"),
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
            _photo(row, f"behavior; {said}" if said else "behavior"),
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


def _photo(row: int, label: str) -> Markup:
    return el(
        "svg",
        el("use", href=f"#row{row}"),
        class_="photo",
        viewbox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )
