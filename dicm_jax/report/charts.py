"""Drawings as inline SVG, colored by the page's style."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from dicm_jax.report.figures import figure, signed
from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.scale import Scale, scale_of
from dicm_jax.studies.compare import Summary

COLORS = 6
"""Colors of the page's style, ``--s0`` and so on."""


@dataclasses.dataclass(frozen=True)
class Line:
    """Curves of one variant, by seed."""

    label: str
    by_seed: Mapping[int, Sequence[tuple[int, float]]]


def color(number: int) -> str:
    """The color of the `number`-th thing of a drawing."""
    return f"var(--s{number % COLORS})"


# ---- Curves ---------------------------------------------------------------------------------


def curves(lines: Sequence[Line], *, y: str, x: str = "steps") -> Markup:
    """The mean over seeds of each line, between the least and the most of any seed."""
    width, height, left, right, top, bottom = 520.0, 300.0, 44.0, 10.0, 8.0, 36.0
    points = [_over_seeds(line) for line in lines]
    across = scale_of((p[0] for line in points for p in line), left, width - right, margin=0.0)
    up = scale_of((v for line in points for p in line for v in p[1:]), height - bottom, top)
    parts = _grid(across, up, left, width - right, height - bottom, x)
    for number, of_it in enumerate(points):
        if not of_it:
            continue
        band = [(s, low) for s, _, low, _ in of_it] + [(s, high) for s, _, _, high in of_it[::-1]]
        parts.append(el("path", class_="band", d=_path(band, across, up), fill=color(number)))
        mean = [(step, mean) for step, mean, _, _ in of_it]
        parts.append(el("path", class_="curve", d=_path(mean, across, up), stroke=color(number)))
        if len(mean) < 30:
            parts += [
                el("circle", cx=across(step), cy=up(value), r=2.5, fill=color(number))
                for step, value in mean
            ]
    said = "; ".join(
        f"{line.label} ends at {figure(of_it[-1][1])}"
        for line, of_it in zip(lines, points, strict=True)
        if of_it
    )
    return _drawing(parts, width, height, f"{y} by {x}: {said}")


def _over_seeds(line: Line) -> list[tuple[int, float, float, float]]:
    """(step, mean, least, most) where every seed has a value."""
    by_seed = [dict(curve) for curve in line.by_seed.values() if curve]
    shared = sorted(set.intersection(*(set(curve) for curve in by_seed))) if by_seed else []
    rows = []
    for step in shared:
        values = [curve[step] for curve in by_seed]
        rows.append((step, statistics.fmean(values), min(values), max(values)))
    return rows


def _path(points: Sequence[tuple[float, float]], across: Scale, up: Scale) -> str:
    return "M" + "L".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)


def _grid(
    across: Scale, up: Scale, left: float, right: float, floor: float, x: str
) -> list[Markup]:
    parts = []
    for tick in up.ticks():
        at = up(tick)
        parts.append(el("line", class_="grid", x1=left, x2=right, y1=at, y2=at))
        parts.append(
            el("text", figure(tick), class_="axis", x=left - 8, y=at + 4, text_anchor="end")
        )
    for tick in across.ticks():
        parts.append(
            el(
                "text",
                f"{tick:,.0f}",
                class_="axis",
                x=across(tick),
                y=floor + 17,
                text_anchor="middle",
            )
        )
    parts.append(el("text", x, class_="axis", x=right, y=floor + 33, text_anchor="end"))
    return parts


# ---- Groups of dots: bars whose axis does not start at zero would mislead ---------------------


def dumbbells(groups: Mapping[str, Mapping[str, Summary]], label: str) -> Markup:
    """A row for each group, a dot for each of its members, with the spread over seeds.

    The figure above a row is what its last member has over its first.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width, left, right, row = 560.0, 142.0, 24.0, 64.0
    height = row * len(groups) + 34
    found = [s for group in groups.values() for s in group.values() if s.n]
    ends = [s.mean + sign * _std(s) for s in found for sign in (-1, 1)]
    across = scale_of(ends, left, width - right)
    parts = []
    for tick in across.ticks():
        at = across(tick)
        parts.append(el("line", class_="grid", x1=at, x2=at, y1=6, y2=height - 26))
        parts.append(
            el("text", figure(tick), class_="axis", x=at, y=height - 8, text_anchor="middle")
        )
    for number, (name, group) in enumerate(groups.items()):
        parts += _dumbbell(name, group, names, across, row * (number + 0.5) + 4, left)
    return _drawing(parts, width, height, label)


def _dumbbell(
    name: str,
    group: Mapping[str, Summary],
    names: Sequence[str],
    across: Scale,
    middle: float,
    left: float,
) -> list[Markup]:
    found = {member: s for member, s in group.items() if s.n}
    parts = [el("text", name, class_="group", x=left - 14, y=middle + 4, text_anchor="end")]
    if not found:
        return parts
    means = [s.mean for s in found.values()]
    parts.append(
        el("line", class_="bar", x1=across(min(means)), x2=across(max(means)), y1=middle, y2=middle)
    )
    for member, s in found.items():
        at, paint = across(s.mean), color(names.index(member))
        if _std(s):
            ends = (across(s.mean - s.std), across(s.mean + s.std))
            parts.append(
                el(
                    "line",
                    class_="spread",
                    x1=ends[0],
                    x2=ends[1],
                    y1=middle,
                    y2=middle,
                    stroke=paint,
                )
            )
        parts.append(el("circle", class_="knob", cx=at, cy=middle, r=6, fill=paint))
    ends = [list(group.values())[place] for place in (0, -1)]
    if len(group) > 1 and all(end.n for end in ends):
        gain, at = signed(ends[1].mean - ends[0].mean), across((min(means) + max(means)) / 2)
        parts.append(el("text", gain, class_="axis", x=at, y=middle - 13, text_anchor="middle"))
    return parts


def _std(of: Summary) -> float:
    return of.std if of.n > 1 else 0.0


def legend(names: Sequence[str], paints: Sequence[str] = ()) -> Markup:
    """Names with their colors: `paints`, or those that `dumbbells` and `curves` give them."""
    paints = paints or [color(number) for number in range(len(names))]
    keys = [
        el("li", el("span", class_="key", style=f"background:{paint}"), name)
        for name, paint in zip(names, paints, strict=False)
    ]
    return el("ul", *keys, class_="legend")


def _drawing(parts: Sequence[Markup], width: float, height: float, label: str) -> Markup:
    box = f"0 0 {width:.0f} {height:.0f}"
    return el(
        "div",
        el("svg", join(parts), viewbox=box, class_="drawing", role="img", aria_label=label),
        class_="scroll",
    )


def known(value: float) -> Summary:
    """One number that somebody reports, as a summary without spread."""
    return Summary(1, value, float("nan"))
