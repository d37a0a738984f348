"""How the numbers of a prepared set are spread: four drawings."""

from collections.abc import Callable, Mapping

import numpy as np

from dicm_jax.data.inspection.tally import Tally
from dicm_jax.report import distributions
from dicm_jax.report.charts import legend
from dicm_jax.report.distributions import Series
from dicm_jax.report.markup import Markup, el, join

_PAINTS = {"train": "var(--s3)", "validation": "var(--s2)", "test": "var(--s1)"}
_COUNTED = {"shown": "var(--s0)", "clicked": "var(--s1)", "a behavior": "var(--s3)"}


def distributions_of(tallies: Mapping[str, Tally]) -> Markup:
    """Drawings of behaviors and impressions per group, clicks over time and popular items."""
    lengths = _series(tallies, lambda tally: tally.lengths.counts)
    sizes = _series(tallies, lambda tally: tally.sizes.counts)
    figures = [
        _figure(
            "Behaviors per group",
            "share of the groups of each split",
            distributions.histogram(lengths, x="behaviors", of="groups"),
        ),
        _figure(
            "Impressions per group",
            "share of the groups of each split",
            distributions.histogram(sizes, x="impressions", of="groups"),
        ),
        _time(tallies),
        _popularity(tallies),
    ]
    names = list(tallies)
    return join(
        [
            legend(names, [_PAINTS[name] for name in names]),
            el("div", *figures, class_="sides"),
        ]
    )


def _series(tallies: Mapping[str, Tally], values: Callable[[Tally], np.ndarray]) -> list[Series]:
    return [Series(name, _PAINTS[name], values(tally)) for name, tally in tallies.items()]


def _figure(title: str, text: str, drawing: Markup, keys: Markup | None = None) -> Markup:
    return el("figure", el("figcaption", el("h3", title), text), keys, drawing)


def _time(tallies: Mapping[str, Tally]) -> Markup:
    timed = {name: tally for name, tally in tallies.items() if tally.hours}
    if not timed:
        return el(
            "figure",
            el("figcaption", el("h3", "Clicks over time"), "The log has no times that are kept."),
        )
    clicks, impressions = (
        [
            Series(
                name,
                _PAINTS[name],
                np.array([(hour, counts[which]) for hour, counts in tally.hours.items()]),
            )
            for name, tally in timed.items()
        ]
        for which in (1, 0)
    )
    drawing, step = distributions.over_time(clicks, impressions)
    text = f"full bars: clicks; pale bars: impressions; by {step} of their groups, UTC"
    return _figure("Clicks over time", text, drawing)


def _popularity(tallies: Mapping[str, Tally]) -> Markup:
    name, tally = next(iter(tallies.items()))
    counts = (tally.shown_N, tally.clicked_N, tally.behavior_N)
    series = [
        Series(label, paint, counts_N)
        for (label, paint), counts_N in zip(_COUNTED.items(), counts, strict=True)
    ]
    text = f"how often each item was shown, clicked and among the behaviors in {name}"
    drawing = distributions.by_rank(series, x="items by rank", y=f"Times in {name}")
    keys = legend(list(_COUNTED), list(_COUNTED.values()))
    return _figure("Popularity of items", text, drawing, keys)
