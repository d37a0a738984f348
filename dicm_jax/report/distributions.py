"""Drawings of how numbers are spread: histograms, counts over time, popularity by rank."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.scale import Scale

_WIDTH, _HEIGHT = 520.0, 280.0
_LEFT, _RIGHT, _TOP, _FLOOR = 52.0, 510.0, 10.0, 240.0
_MOST_BARS = 52
_TAIL = 0.005
_HOUR_S, _DAY_H = 3600, 24
_MOST_STEPS = 120
_STEPS_H = {"hour": 1, "day": _DAY_H, "week": 7 * _DAY_H, "four weeks": 28 * _DAY_H}


@dataclasses.dataclass(frozen=True)
class Series:
    """Numbers of one thing that a drawing shows.

    Attributes:
      label: its name.
      paint: its color.
      values: what they are is said by the function that draws them.
    """

    label: str
    paint: str
    values: np.ndarray


# ---- Histograms -----------------------------------------------------------------------------


def histogram(series: Sequence[Series], *, x: str, of: str) -> Markup:
    """Shares of what has 0, 1, 2 ... of something; a long tail is one bar at the end.

    Args:
      series: ``values[n]``: how many have ``n``.
      x: what is counted.
      of: whose shares they are.
    """
    longest = max((len(s.values) for s in series), default=0)
    end = _end_of_body(series, longest)
    step = -(-end // _MOST_BARS) if end else 1
    bars = [_bars(s.values, step, end) for s in series]
    count = max(map(len, bars), default=1)
    up = _upward(max((float(b.max(initial=0)) for b in bars), default=0.0))
    slot = (_RIGHT - _LEFT) / count
    parts = _grid(up, lambda share: f"{100 * share:.3g} %")
    for number, (s, shares) in enumerate(zip(series, bars, strict=True)):
        wide = slot * 0.86 / len(series)
        for place, share in enumerate(shares.tolist()):
            at = _LEFT + slot * (place + 0.07) + wide * number
            said = f"{_span(place, step, end, longest)} {x}: {100 * share:.2f} % of {s.label}"
            parts.append(_bar(at, wide, up(0.0), up(share), s.paint, said))
    labelled = range(0, count, max(1, -(-count // 9)))
    for place in labelled:
        last = place == count - 1 and end < longest
        parts.append(_tick(_LEFT + slot * (place + 0.5), f"{place * step:,}{'+' * last}"))
    parts.append(_axis_name(f"{x}{'; the last bar: all above' if end < longest else ''}"))
    told = "; ".join(f"{s.label}: {int(s.values.sum()):,} {of}" for s in series)
    return _drawing(parts, f"Share of {of} by {x}. {told}")


def _end_of_body(series: Sequence[Series], longest: int) -> int:
    """Where the bars end: at the longest, or where a tail of half a percent begins."""
    if longest <= _MOST_BARS:
        return longest
    ends = [_quantile(s.values, 1 - _TAIL) + 1 for s in series if s.values.sum()]
    return max(ends) if max(ends) * 1.5 < longest else longest


def _quantile(counts: np.ndarray, share: float) -> int:
    sums = np.cumsum(counts)
    return int(np.searchsorted(sums, share * sums[-1]))


def _bars(counts: np.ndarray, step: int, end: int) -> np.ndarray:
    """Shares in bars of `step` numbers, what is at `end` or above in the last one."""
    body = np.pad(counts[:end], (0, max(0, end - len(counts))))
    body = np.pad(body, (0, -len(body) % step)).reshape(-1, step).sum(1)
    tail = counts[end:].sum()
    if tail:
        body = np.append(body, tail)
    return body / max(1, counts.sum())


def _span(place: int, step: int, end: int, longest: int) -> str:
    first, last = place * step, min((place + 1) * step, end) - 1
    if first >= end:
        return f"{end:,} to {longest - 1:,}"
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


# ---- Over time ------------------------------------------------------------------------------


def over_time(series: Sequence[Series], behind: Sequence[Series]) -> tuple[Markup, str]:
    """Counts by hour, day, week or four weeks as bars, before paler bars of what holds them.

    Args:
      series: ``values``: hours since 1970 and counts, ``[n, 2]``.
      behind: likewise, larger, in the same order.

    Returns:
      The drawing, and what a bar stands for, e.g. ``"week"``.
    """
    hours = np.concatenate([s.values[:, 0] for s in behind])
    first, last = int(hours.min()), int(hours.max()) + 1
    name, step = next(
        ((n, s) for n, s in _STEPS_H.items() if (last - first) / s <= _MOST_STEPS),
        list(_STEPS_H.items())[-1],
    )
    border = int(behind[-1].values[:, 0].min())  # of the last split: no bar stands for two
    origin = border - -(-(border - first) // step) * step
    count = -(-(last - origin) // step)
    slot = (_RIGHT - _LEFT) / count
    pale = [_by_step(s, origin, step, count) for s in behind]
    full = [_by_step(s, origin, step, count) for s in series]
    up = _upward(float(np.sum(pale, axis=0).max()))
    parts, floor = _grid(up, short), np.zeros(count)
    for s, shown, counts in zip(series, pale, full, strict=True):
        for place in np.flatnonzero(shown).tolist():
            at, low = _LEFT + slot * place, float(floor[place])
            begin = np.datetime64((origin + place * step) * _HOUR_S, "s")
            said = (
                f"{str(begin)[: 13 if step == 1 else 10]}, {s.label}: {int(shown[place]):,}"
                f" impressions, {int(counts[place]):,} clicks"
            )
            wide = max(slot * 0.84, 0.6)
            total, clicked = low + float(shown[place]), low + float(counts[place])
            parts.append(_bar(at, wide, up(low), up(total), s.paint, said, class_="pale"))
            parts.append(_bar(at, wide, up(low), up(clicked), s.paint, said))
        floor += shown
    for at, word in _dates(origin, last, lambda hour: _LEFT + slot * (hour - origin) / step):
        if at < _RIGHT - 16:  # or it would stand half outside
            parts.append(_tick(at, word))
    told = "; ".join(f"{s.label}: {int(c.sum()):,}" for s, c in zip(series, full, strict=True))
    return _drawing(parts, f"Clicks and impressions by {name}. Clicks: {told}"), name


def _by_step(of: Series, origin: int, step: int, count: int) -> np.ndarray:
    places = (of.values[:, 0] - origin) // step
    return np.bincount(places, weights=of.values[:, 1], minlength=count)


def _dates(first: int, last: int, place: Callable[[float], float]) -> list[tuple[float, str]]:
    """About six round dates between two hours since 1970, each with its place."""
    start, end = (np.datetime64(hour * _HOUR_S, "s") for hour in (first, last))
    days = (last - first) / _DAY_H
    if days > 150:
        every = max(1, round(days / 30.4 / 6))
        dates = np.arange(start.astype("M8[M]"), end.astype("M8[M]") + 1)[1::every]
        return [(place(_hour(date)), str(date)) for date in dates if date <= end]
    if days > 3:
        every = max(1, round(days / 6))
        dates = np.arange(start.astype("M8[D]"), end.astype("M8[D]") + 1)[::every]
        return [(place(_hour(date)), str(date)[5:]) for date in dates if start <= date <= end]
    dates = np.arange(start, end, np.timedelta64(max(1, (last - first) // 5), "h"))
    return [(place(_hour(date)), str(date)[5:16].replace("T", " ")) for date in dates]


def _hour(date: np.datetime64) -> float:
    return date.astype("M8[s]").astype(np.int64) / _HOUR_S


# ---- By rank --------------------------------------------------------------------------------


def by_rank(series: Sequence[Series], *, x: str, y: str) -> Markup:
    """Numbers from the largest to the smallest above 0, both axes logarithmic.

    Args:
      series: ``values``: the numbers, in any order.
      x: what is ranked.
      y: what the numbers count.
    """
    ranked = [np.sort(s.values[s.values > 0])[::-1] for s in series]
    across = Scale(0.0, _decades(max(map(len, ranked), default=1)), _LEFT, _RIGHT)
    most = max((float(r.max(initial=1)) for r in ranked), default=1.0)
    up = Scale(0.0, _decades(most), _FLOOR, _TOP)
    parts = []
    for power in _powers(up.high):
        parts += _line(up(power), short(10.0**power))
    for power in _powers(across.high):
        at = across(power)
        parts.append(el("line", class_="grid", x1=at, x2=at, y1=_TOP, y2=_FLOOR))
        parts.append(_tick(at, short(10.0**power)))
    for s, values in zip(series, ranked, strict=True):
        if len(values):
            last = math.log10(len(values))
            ranks = np.unique(np.round(np.logspace(0, last, 160)).astype(int))
            points = [
                f"{across(math.log10(rank)):.1f},{up(math.log10(values[rank - 1])):.1f}"
                for rank in ranks.tolist()
            ]
            parts.append(el("path", class_="curve", d="M" + "L".join(points), stroke=s.paint))
    parts.append(_axis_name(x))
    told = "; ".join(
        f"{s.label}: {len(r):,}, from {int(r[0]):,} to {int(r[-1]):,}"
        for s, r in zip(series, ranked, strict=True)
        if len(r)
    )
    return _drawing(parts, f"{y} by rank. {told}")


def _decades(most: float) -> float:
    return max(math.log10(most) * 1.03, 0.5)


def _powers(high: float) -> range:
    return range(math.floor(high) + 1)


# ---- Parts ----------------------------------------------------------------------------------


def short(value: float) -> str:
    """A count in few letters.

    >>> short(1500), short(2e6), short(40)
    ('1.5k', '2M', '40')
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _upward(most: float) -> Scale:
    return Scale(0.0, most * 1.05 or 1.0, _FLOOR, _TOP)


def _grid(up: Scale, write: Callable[[float], str]) -> list[Markup]:
    lines = (_line(up(tick), write(tick)) for tick in up.ticks(4))
    return list(itertools.chain.from_iterable(lines))


def _line(at: float, word: str) -> list[Markup]:
    return [
        el("line", class_="grid", x1=_LEFT, x2=_RIGHT, y1=at, y2=at),
        el("text", word, class_="axis", x=_LEFT - 8, y=at + 4, text_anchor="end"),
    ]


def _tick(at: float, word: str) -> Markup:
    return el("text", word, class_="axis", x=at, y=_FLOOR + 17, text_anchor="middle")


def _axis_name(name: str) -> Markup:
    return el("text", name, class_="axis", x=_RIGHT, y=_FLOOR + 34, text_anchor="end")


def _bar(
    at: float, wide: float, floor: float, top: float, paint: str, said: str, class_: str = "column"
) -> Markup:
    title = el("title", said)
    return el(
        "rect",
        title,
        x=at,
        y=top,
        width=wide,
        height=max(floor - top, 0.0),
        fill=paint,
        class_=class_,
    )


def _drawing(parts: Sequence[Markup], label: str) -> Markup:
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    svg = el("svg", join(parts), viewbox=box, class_="drawing", role="img", aria_label=label)
    return el("div", svg, class_="scroll")
