"""One row of a table as a drawing: a dot for each seed, on a scale that the column shares."""

import math
from collections.abc import Callable, Iterable, Sequence

from dicm_jax.report.figures import figure
from dicm_jax.report.markup import Markup, el
from dicm_jax.report.scale import Scale, scale_of
from dicm_jax.studies.compare import Difference

_WIDTH, _HEIGHT = 260.0, 30.0


def strip_scale(values: Sequence[float]) -> Scale:
    """The scale that all strips of a column share."""
    return scale_of(values, 6.0, _WIDTH - 6.0)


def difference_strip(difference: Difference, scale: Scale, label: str) -> Markup:
    """A dot per seed, the mean, its interval, and where zero is."""
    middle = _HEIGHT / 2
    parts = [_upright(scale(0.0), "zero")]
    if not math.isnan(difference.low):
        ends = (scale(difference.low), scale(difference.high))
        parts.append(el("line", class_="span", x1=ends[0], x2=ends[1], y1=middle, y2=middle))
    parts += _dots(difference.by_seed.values(), scale)
    if difference.by_seed:
        parts.append(el("circle", class_="mean", cx=scale(difference.mean), cy=middle, r=5))
    return _strip(parts, label)


def score_strip(values: Sequence[float], mean: float, scale: Scale, label: str) -> Markup:
    """A dot per seed and the mean."""
    parts = _dots(values, scale)
    if values:
        parts.append(_upright(scale(mean), "tick", inset=6))
    return _strip(parts, label)


def strip_axis(scale: Scale, write: Callable[[float], str] = figure) -> Markup:
    """The axis of a column of strips."""
    parts = []
    for tick in scale.ticks(4):
        parts.append(
            el(
                "text",
                write(tick) if tick else "0",
                class_="axis",
                x=scale(tick),
                y=11,
                text_anchor="middle",
            )
        )
        parts.append(el("line", class_="zero", x1=scale(tick), x2=scale(tick), y1=15, y2=19))
    box = f"0 0 {_WIDTH:.0f} 20"
    return el("svg", *parts, viewbox=box, class_="strip", aria_hidden="true")


def _strip(parts: Sequence[Markup], label: str) -> Markup:
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    return el("svg", *parts, viewbox=box, class_="strip", role="img", aria_label=label)


def _dots(values: Iterable[float], scale: Scale) -> list[Markup]:
    middle = _HEIGHT / 2
    return [el("circle", class_="dot", cx=scale(value), cy=middle, r=3) for value in values]


def _upright(x: float, kind: str, inset: float = 2) -> Markup:
    return el("line", class_=kind, x1=x, x2=x, y1=inset, y2=_HEIGHT - inset)
