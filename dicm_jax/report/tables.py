"""A study's tables in HTML."""

import itertools
from collections.abc import Sequence

from dicm_jax.report import strips
from dicm_jax.report.figures import NONE, figure, interval, signed, spread
from dicm_jax.report.markup import Child, Markup, el, join
from dicm_jax.studies.compare import Summary, summary
from dicm_jax.studies.grid import Table
from dicm_jax.studies.results import Results


def comparison_table(results: Results) -> Markup:
    """The paired differences that the study is made for, drawn and in figures."""
    found = [
        (comparison, results.difference(comparison.variant, comparison.reference))
        for comparison in results.study.comparisons
    ]
    ends = [v for _, d in found for v in (0.0, d.low, d.high, *d.by_seed.values())]
    scale = strips.strip_scale(ends)
    rows = []
    for comparison, difference in found:
        pair = _pair(results, comparison.variant, comparison.reference)
        said = f"mean {signed(difference.mean)}, {interval(difference.low, difference.high)}"
        rows.append(
            el(
                "tr",
                el("th", pair, el("small", comparison.text), scope="row"),
                el("td", strips.difference_strip(difference, scale, said), class_="drawn"),
                _number(signed(difference.mean), spread(difference.std)),
                _number(interval(difference.low, difference.high) or NONE, difference.verdict),
            )
        )
    axis = strips.strip_axis(scale, signed)
    head = _head("", axis, "GAUC, mean", "95 % interval")
    caption = (
        "Paired differences in GAUC: small dots are seeds, the large one their mean, the line "
    )
    return _table(caption + "its 95 % interval.", head, rows)


def variant_table(results: Results) -> Markup:
    """Every variant with its scores, and its difference to the reference."""
    study = results.study
    scores = [v for finding in results.findings.values() for v in finding.scores["gauc"].values()]
    scale = strips.strip_scale(scores)
    rows = []
    for variant, finding in results.findings.items():
        gauc, auc, loss = (finding.summary(name) for name in ("gauc", "auc", "logloss"))
        strip = strips.score_strip(
            list(finding.scores["gauc"].values()), gauc.mean, scale, f"GAUC {figure(gauc.mean)}"
        )
        seeds = "" if gauc.n == len(study.seeds) else f"{gauc.n} of {len(study.seeds)} seeds"
        rows.append(
            el(
                "tr",
                el("th", study.label(variant), el("small", seeds), scope="row"),
                el("td", strip, class_="drawn"),
                _summary(gauc),
                _difference(results, variant, study.reference),
                _summary(auc),
                _summary(loss),
                class_="reference" if variant == study.reference else None,
            )
        )
    head = _head("", strips.strip_axis(scale), "GAUC", "paired difference", "AUC", "log loss")
    caption = f"Differences in GAUC are to {study.label(study.reference)}, of the same seed."
    return _table(caption, head, rows)


def paper_table(results: Results, table: Table) -> Markup:
    """Variants beside what the paper reports; gains are over the first row.

    GAUC, and AUC where the paper gives it.
    """
    given = [reported for reported in table.paper.values() if reported[1] is not None]
    measures = ("gauc", "auc") if given else ("gauc",)
    rows = []
    for variant, label in table.rows.items():
        cells = []
        for place, measure in enumerate(measures):
            cells += [*_ours(results, table, variant, measure), *_theirs(table, variant, place)]
        rows.append(el("tr", el("th", label, scope="row"), *cells))
    names = {"gauc": "GAUC", "auc": "AUC"}
    heads = [(f"{names[m]}, ours", "gain", f"{names[m]}, paper", "gain") for m in measures]
    head = _head("", *itertools.chain.from_iterable(heads))
    text = el("p", table.text, class_="note") if table.text else None
    wide = "card wide" if len(measures) > 1 else "card"
    return el("div", el("h3", table.title), _table(None, head, rows), text, class_=wide)


def _ours(results: Results, table: Table, variant: str, measure: str) -> tuple[Markup, Markup]:
    reference = next(iter(table.rows))
    gain = _difference(results, variant, reference, measure)
    return _summary(results.findings[variant].summary(measure)), gain


def _theirs(table: Table, variant: str, place: int) -> tuple[Markup, Markup]:
    """What the paper has for a variant, and over the first row."""
    reference = next(iter(table.rows))
    value, base = (
        table.paper[name][place] if name in table.paper else None for name in (variant, reference)
    )
    gain = None if value is None or base is None or variant == reference else value - base
    return (
        el("td", figure(value), class_="number paper"),
        el("td", signed(gain), class_="number paper"),
    )


def segment_table(results: Results) -> Markup:
    """GAUC of every variant in every segment, and the paired difference to the reference."""
    study = results.study
    rows = []
    for variant, finding in results.findings.items():
        cells = []
        for segment in results.segment_sizes:
            of_it = summary(finding.segments.get(segment, {}).values())
            gain = results.segment_difference(segment, variant)
            under = "" if variant == study.reference else signed(gain.mean)
            cells.append(_number(figure(of_it.mean), under, title=spread(of_it.std)))
        rows.append(el("tr", el("th", study.label(variant), scope="row"), *cells))
    sizes = [
        join([name, el("small", f"{count:,} impressions")])
        for name, count in results.segment_sizes.items()
    ]
    caption = (
        "GAUC within parts of the test split; below it the paired difference to "
        f"{study.label(study.reference)}. Cold items were never seen in training."
    )
    return _table(caption, _head("", *sizes), rows)


def _pair(results: Results, variant: str, reference: str) -> str:
    return f"{results.study.label(variant)} − {results.study.label(reference)}"


def _summary(of: Summary) -> Markup:
    return _number(figure(of.mean), spread(of.std))


def _difference(results: Results, variant: str, reference: str, measure: str = "gauc") -> Markup:
    if variant == reference:
        return _number(NONE)
    difference = results.difference(variant, reference, measure)
    return _number(signed(difference.mean), spread(difference.std))


def _number(value: str, under: str = "", title: str = "") -> Markup:
    small = el("small", under) if under else None
    return el("td", value, small, class_="number", title=title or None)


def _head(*names: Child) -> Markup:
    cells = [el("th", name, scope="col") if name else el("td") for name in names]
    return el("thead", el("tr", *cells))


def _table(caption: str | None, head: Markup, rows: Sequence[Markup]) -> Markup:
    told = el("caption", caption) if caption else None
    return el("div", el("table", told, head, el("tbody", *rows)), class_="scroll")
