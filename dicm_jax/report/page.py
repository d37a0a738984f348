"""A study's report: one HTML file with everything in it, for light and dark screens."""

import itertools
import json
import math

from dicm_jax.report import charts, gallery
from dicm_jax.report.document import document
from dicm_jax.report.figures import NONE, figure, interval, signed
from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.tables import comparison_table, paper_table, segment_table, variant_table
from dicm_jax.studies.grid import Bars
from dicm_jax.studies.results import Results

_PAPER = "https://arxiv.org/abs/1711.06505"


def report(results: Results) -> str:
    """The whole page."""
    sections = [
        ("Differences", _differences(results)),
        ("All variants", _variants(results)),
        ("Beside the paper", _paper(results)),
        ("Learning curves", _curves(results)),
        ("Segments", _segments(results)),
        ("Attention to photos", _gallery(results)),
        ("Failed cells", _failed(results)),
        ("How it was made", _circumstances(results)),
    ]
    return document(results.study.title, _header(results), sections)


def _header(results: Results) -> Markup:
    study = results.study
    done = sum(results.findings[variant].summary().n for variant in study.variants)
    counts = [f"{len(study.variants)} variants", f"{len(study.seeds)} seeds", f"{done} cells done"]
    if results.failed:
        counts.append(f"{len(results.failed)} failed")
    if results.open_cells:
        counts.append(f"{len(results.open_cells)} not run yet")
    return el(
        "header",
        el("p", " · ".join(["dicm_jax", *counts, results.date]), class_="eyebrow"),
        el("h1", study.title),
        *(el("p", text, class_="lead") for text in study.text.strip().split("\n\n") if text),
        _headline(results),
    )


def _headline(results: Results) -> Markup | None:
    """The first comparisons, as large numbers."""
    study, cards = results.study, []
    for comparison in study.comparisons[:4]:
        difference = results.difference(comparison.variant, comparison.reference)
        above = sum(value > 0 for value in difference.by_seed.values())
        pair = f"{study.label(comparison.variant)} − {study.label(comparison.reference)}"
        between = interval(difference.low, difference.high)
        facts = [f"95 % interval {between}"] if between else []
        facts.append(f"above 0 in {above} of {len(difference.by_seed)} seeds")
        verdict = difference.verdict
        cards.append(
            el(
                "li",
                el("b", signed(difference.mean)),
                el("span", comparison.text or pair),
                el("em", verdict) if verdict != "holds" else None,
                el("small", f"GAUC, {pair}; " + "; ".join(facts)),
                class_=None if verdict == "holds" else "open",
            )
        )
    return el("ul", *cards, class_="headline") if cards else None


def _differences(results: Results) -> Markup | None:
    return comparison_table(results) if results.study.comparisons else None


def _variants(results: Results) -> Markup:
    oracle = None
    if results.oracle is not None:
        oracle = el(
            "p",
            f"Knowing the true click probabilities gives GAUC {figure(results.oracle)}, the most "
            "that can be reached.",
            class_="note",
        )
    return join([variant_table(results), oracle])


def _paper(results: Results) -> Markup | None:
    tables = [paper_table(results, table) for table in results.study.tables]
    bars = [_bars(results, bars) for bars in results.study.bars]
    if not tables and not bars:
        return None
    source = el(
        "p",
        "The paper: Ge et al., ",
        el("cite", "Image Matters: Visually Modeling User Behaviors Using Advanced Model Server"),
        ", CIKM 2018 (",
        el("a", "arXiv:1711.06505", href=_PAPER),
        "). Its log has billions of impressions and is not public, so levels cannot agree; the "
        "order of variants, and the size of their differences, can be compared.",
        class_="note",
    )
    return join([source, el("div", *tables, class_="cards"), *bars])


def _bars(results: Results, bars: Bars) -> Markup:
    ours = {
        group: {label: results.findings[variant].summary() for label, variant in members.items()}
        for group, members in bars.groups.items()
    }
    names = list(dict.fromkeys(label for members in ours.values() for label in members))
    sides = [_side("Ours", ours)]
    if bars.paper:
        paper = {
            group: {label: charts.known(value) for label, value in members.items()}
            for group, members in bars.paper.items()
        }
        sides.append(_side("Paper", paper))
    return el(
        "figure",
        el("figcaption", el("h3", bars.title), bars.text),
        charts.legend(names),
        el("div", *sides, class_="sides"),
    )


def _side(title: str, groups: dict) -> Markup:
    said = "; ".join(
        f"{group}: " + ", ".join(f"{label} {figure(s.mean)}" for label, s in members.items())
        for group, members in groups.items()
    )
    return el("div", el("h4", title), charts.dumbbells(groups, f"GAUC, {title.lower()}. {said}"))


def _curves(results: Results) -> Markup | None:
    study = results.study
    names = [name for name in study.curves if results.findings[name].gaucs]
    if not names:
        return None
    kinds = [
        ("GAUC on the evaluation split", {n: results.findings[n].gaucs for n in names}),
        ("Training loss, nats", {n: results.findings[n].losses for n in names}),
    ]
    drawings = []
    for title, by_name in kinds:
        lines = [charts.Line(study.label(name), by_name[name]) for name in names]
        if any(curve for line in lines for curve in line.by_seed.values()):
            drawings.append(
                el("figure", el("figcaption", el("h3", title)), charts.curves(lines, y=title))
            )
    if study.curves_paper:
        lines = [charts.Line(name, {0: curve}) for name, curve in study.curves_paper.items()]
        drawings.append(
            el(
                "figure",
                el("figcaption", el("h3", "The paper's Fig. 6, points read off its curves")),
                charts.legend(list(study.curves_paper)),
                charts.curves(lines, y="GAUC in the paper"),
            )
        )
    note = "Lines are means over seeds; bands reach from the lowest seed to the highest. "
    return join(
        [
            el("p", note + study.curves_text, class_="note"),
            charts.legend([study.label(name) for name in names]),
            el("div", *drawings, class_="sides"),
        ]
    )


def _segments(results: Results) -> Markup | None:
    return segment_table(results) if results.segment_sizes else None


def _gallery(results: Results) -> Markup | None:
    pictures = results.pictures
    if not pictures or not pictures["users"]:
        return None
    variant = results.study.attention or ""
    text = (
        f"What {results.study.label(variant)} (seed {results.study.seeds[0]}) looks at when it "
        "judges a candidate, for users drawn at random among those with enough behaviors. On the "
        "left a candidate, whether it was clicked, and the predicted probability; on the right "
        "what the user clicked before. Bars are attention weights, each query scaled to its "
        "largest in the row, striped where negative; a photo fades with the weight of the first. "
    )
    return join(
        [
            el("p", text + gallery.caption(pictures), class_="note"),
            charts.legend(gallery.queries(pictures), gallery.PAINTS),
            gallery.gallery(pictures),
        ]
    )


def _failed(results: Results) -> Markup | None:
    if not results.failed:
        return None
    rows = [
        el("tr", el("th", name, scope="row"), el("td", message, class_="message"))
        for name, message in results.failed.items()
    ]
    head = el("tr", el("th", "cell", scope="col"), el("th", "what it said", scope="col"))
    caption = el("caption", "A rerun of the study tries them again.")
    return el("div", el("table", caption, el("thead", head), el("tbody", *rows)), class_="scroll")


def _circumstances(results: Results) -> Markup:
    study = results.study
    seconds = [list(finding.seconds.values()) for finding in results.findings.values()]
    total = math.fsum(itertools.chain.from_iterable(seconds))
    facts = {
        "command": el("code", results.command),
        "date": results.date,
        "time": f"{total / 60:,.0f} min for all cells together",
        "devices": results.device,
        "versions": ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        "seeds": f"{', '.join(map(str, study.seeds))}, given to {', '.join(study.seed_settings)}",
        "scores": "GAUC: AUC within each user, weighted by impressions; users with one class are "
        "left out. ± is the standard deviation over seeds. Intervals are Student's t on paired "
        "differences, 95 %; they speak of seeds, not of other users.",
    }
    listed = [join([el("dt", name), el("dd", value)]) for name, value in facts.items()]
    settings = [
        el("tr", el("th", name, scope="row"), el("td", el("code", _settings(of_it))))
        for name, of_it in study.variants.items()
    ]
    caption = el("caption", "What differs from the settings that all share")
    return join(
        [
            el("dl", *listed),
            el("div", el("table", caption, el("tbody", *settings)), class_="scroll"),
        ]
    )


def _settings(of_variant: dict) -> str:
    return "  ".join(f"{name}={json.dumps(value)}" for name, value in of_variant.items()) or NONE
