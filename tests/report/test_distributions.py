"""Drawings of distributions: what is drawn is what was counted."""

import re

import numpy as np
import pytest

from dicm_jax.report.distributions import Series, by_rank, histogram, over_time, short

HOURS_OF_A_DAY = 24


def _series(values, label="train"):
    return Series(label, "var(--s0)", np.array(values))


def _titles(drawing):
    return re.findall(r"<title>(.*?)</title>", drawing)


def _number(pattern, text):
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1].replace(",", ""))


def _rects(drawing):
    """(x, y, width, height, class) of every bar."""
    found = []
    for rect in re.findall(r"<rect ([^>]*)>", drawing):
        of = dict(re.findall(r'(\S+)="([^"]*)"', rect))
        found.append((*(float(of[name]) for name in ("x", "y", "width", "height")), of["class"]))
    return found


@pytest.mark.parametrize("length", [1, 7, 52, 53, 300])
def test_bars_of_a_histogram_hold_everything(length):
    counts = np.random.default_rng(length).integers(1, 9, length)
    drawing = histogram([_series(counts)], x="behaviors", of="groups")
    shares = [_number(r"([\d.]+) % of train", title) for title in _titles(drawing)]
    assert sum(shares) == pytest.approx(100, abs=0.005 * len(shares))
    assert len(shares) <= 54
    heights = np.array([height for *_, height, _ in _rects(drawing)])
    np.testing.assert_allclose(heights / heights.max(), np.array(shares) / max(shares), atol=0.01)


def test_a_long_tail_is_the_last_bar():
    counts = np.zeros(5001, np.int64)
    counts[:40], counts[[2000, 5000]] = 100, 3
    drawing = histogram([_series(counts)], x="behaviors", of="groups")
    last = _titles(drawing)[-1]
    assert last.startswith("40 to 5,000 behaviors: ")
    assert "the last bar: all above" in drawing
    shares = [_number(r": ([\d.]+) %", title) for title in _titles(drawing)]
    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_bars_over_time_count_every_click_once():
    rng = np.random.default_rng(1)
    clicks, impressions = [], []
    for name, first in (("train", 420_001), ("test", 420_001 + 90 * HOURS_OF_A_DAY + 5)):
        hours = first + np.sort(rng.choice(60 * HOURS_OF_A_DAY, 200, replace=False))
        shown = rng.integers(5, 50, 200)
        impressions.append(_series(np.stack([hours, shown], 1), name))
        clicks.append(_series(np.stack([hours, shown // 3], 1), name))
    drawing, step = over_time(clicks, impressions)
    assert step == "week"
    for of_it, pattern in ((impressions, r"([\d,]+) impr"), (clicks, r"([\d,]+) clicks")):
        for series in of_it:
            mine = [title for title in _titles(drawing) if f", {series.label}: " in title]
            found = [_number(pattern, title) for title in mine]
            assert sum(found) == 2 * series.values[:, 1].sum()  # a pale bar and a full one
    starts = {}
    for title in _titles(drawing):
        starts.setdefault(title.split(", ")[0], set()).add(title.split(", ")[1].split(":")[0])
    assert all(len(splits) == 1 for splits in starts.values())  # no bar stands for two splits


def test_steps_of_time_follow_the_span():
    for hours, expected in (
        (30, "hour"),
        (24 * 20, "day"),
        (24 * 500, "week"),
        (24 * 2000, "four"),
    ):
        series = [_series([[1000, 5], [1000 + hours, 2]])]
        _, step = over_time(series, series)
        assert step.startswith(expected)


def test_ranks_fall_and_zeros_are_left_out():
    counts = np.random.default_rng(2).zipf(1.5, 4000)
    counts[::2] = 0
    drawing = by_rank([_series(counts), _series([0, 0], "none")], x="items", y="Times")
    (path,) = re.findall(r'd="M([^"]*)"', drawing)
    points = np.array([[float(v) for v in point.split(",")] for point in path.split("L")])
    assert (np.diff(points[:, 0]) >= 0).all()
    assert (np.diff(points[:, 1]) >= 0).all()  # downwards
    assert f"train: 2,000, from {counts.max():,} to {counts[counts > 0].min():,}" in drawing


def test_counts_in_few_letters():
    assert [short(value) for value in (0, 7, 1200, 2_500_000, 3e9, 1e13)] == [
        "0", "7", "1.2k", "2.5M", "3G", "10T",
    ]  # fmt: skip
