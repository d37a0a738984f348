"""The report: in one file, true to its numbers, honest about what failed or is open."""

import dataclasses
import html.parser
import math
import re
from typing import Any

import pytest

from dicm_jax.report.charts import dumbbells
from dicm_jax.report.figures import figure, interval, signed
from dicm_jax.report.markup import Markup, el
from dicm_jax.report.page import report
from dicm_jax.report.scale import scale_of
from dicm_jax.report.text import aligned, text_report
from dicm_jax.studies.compare import summary
from dicm_jax.studies.grid import Bars, Comparison, Study, Table
from dicm_jax.studies.results import Finding, Results

SEEDS = (0, 1, 2)
GAUC = {"without": {0: 0.60, 1: 0.61, 2: 0.62}, "with": {0: 0.63, 1: 0.65, 2: 0.64}}


def _study(**changes: Any) -> Study:
    study = Study(
        name="shoes",
        title="Do photos help?",
        text="One.\n\nTwo.",
        configs={},
        labels={"with": "with <photos>"},
        variants={"without": {"model.images": "none"}, "with": {}, "never": {}},
        seeds=SEEDS,
        seed_settings=("train.seed",),
        reference="without",
        comparisons=(Comparison("with", "without", "Photos help."),),
        tables=(
            Table(
                "Table 3",
                {"without": "baseline", "with": "joint", "never": "never"},
                {"without": (0.6205, 0.6758), "with": (0.6260, 0.6795)},
            ),
        ),
        bars=(
            Bars(
                "Fig. 5",
                {"MLP": {"without": "without", "with": "with"}, "DIN": {"with": "never"}},
                {"MLP": {"without": 0.6205, "with": 0.6260}},
            ),
        ),
        curves=("without", "with", "never"),
        curves_text="",
        curves_paper={"DICM": [(16_000, 0.617), (128_000, 0.6285)]},
        attention="with",
    )
    return dataclasses.replace(study, **changes)


def _finding(gauc: dict[int, float]) -> Finding:
    return Finding(
        scores={"gauc": gauc, "auc": gauc, "logloss": dict.fromkeys(gauc, 0.3)},
        segments={"cold items": gauc} if gauc else {},
        losses={seed: [(10, 0.6), (20, 0.5)] for seed in gauc},
        gaucs={seed: [(10, 0.55), (20, value)] for seed, value in gauc.items()},
        seconds=dict.fromkeys(gauc, 60.0),
    )


def _impression(clicked: bool, weights: list[float]) -> dict[str, Any]:
    of_it = {"image/image": weights, "image/ids": [0.0] * len(weights)}
    return {"row": 3, "clicked": clicked, "probability": 0.25, "weights": of_it}


def _pictures(photos: dict[str, str]) -> dict[str, Any]:
    user = {
        "all_behaviors": 9,
        "behaviors": [{"row": 3}, {"row": 5}, {"row": -1}],
        "impressions": [_impression(True, [0.5, -0.25, 0.0]), _impression(False, [0.0, 0.0, 0.0])],
    }
    return {"users": [user], "looks": {"3": [0.1] * 6, "5": [-2.0] * 6}, "photos": photos}


def _results(**changes: Any) -> Results:
    results = Results(
        study=_study(),
        findings={name: _finding(GAUC.get(name, {})) for name in ("without", "with", "never")},
        failed={"never/seed-0": "ids < 0: <b>no</b>"},
        open_cells=["never/seed-1", "never/seed-2"],
        oracle=0.8,
        segment_sizes={"cold items": 100},
        pictures=_pictures({}),
        command="python -m dicm_jax.study",
        date="2026-11-21",
        versions={"jax": "0.10"},
        device="1 x cpu",
    )
    return dataclasses.replace(results, **changes)


class _Reader(html.parser.HTMLParser):
    """Collects references and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.references, self.labels, self.ids = [], [], 0, set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.references += [(tag, v) for k, v in attrs if k in ("src", "href", "data", "action")]
        self.ids.add(values.get("id"))
        if values.get("role") == "img":
            assert values.get("aria-label"), f"a picture without words: {attrs}"
            self.labels += 1
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_loads_nothing_from_elsewhere():
    page = report(_results())
    reader = _read(page)
    for tag, reference in reader.references:
        inside = reference.startswith(("#", "data:"))
        assert inside or tag == "a", f"<{tag}> loads {reference}"
        if reference.startswith("#"):
            assert reference[1:] in reader.ids
    assert reader.labels > 5
    assert not re.search(r"@import|url\(|<script|<link|<iframe", page)


def test_text_of_users_is_escaped():
    page = report(_results())
    assert "<b>no</b>" not in page
    assert "ids &lt; 0: &lt;b&gt;no&lt;/b&gt;" in page
    assert "with &lt;photos&gt;" in page
    assert el("p", "a < b", Markup("<i>c</i>"), class_='"x"') == (
        '<p class="&quot;x&quot;">a &lt; b<i>c</i></p>'
    )


def test_the_numbers_are_there():
    page = report(_results())
    for text in (
        ".6400",  # mean of the variant
        "+.0300",  # of the paired difference
        "± .0100",
        "+.0052 to +.0548",  # 0.03 +- 4.3027 * 0.01 / sqrt(3)
        "above 0 in 3 of 3 seeds",
        ".6260",  # the paper's
        "+.0055",
        ".6795",
        "DICM ends at .6285",
        "1 failed",
        "2 not run yet",
        "the newest 3 of 9 behaviors",
        "25 %",
    ):
        assert text in page, text


def test_a_claim_that_seeds_do_not_bear_out_is_marked():
    against = {"without": GAUC["with"], "with": GAUC["without"], "never": {}}
    findings = {name: _finding(gauc) for name, gauc in against.items()}
    assert "<em>does not hold</em>" in report(_results(findings=findings))
    assert "<em>" not in report(_results())


def test_a_gain_is_written_only_between_the_ends_of_a_row():
    """With its last member missing, a row must not show what another has over the first."""
    first, middle, last = summary([0.60]), summary([0.63]), summary([0.70])
    whole = dumbbells({"MLP": {"none": first, "ad": middle, "joint": last}}, "GAUC")
    assert "+.1000" in whole
    assert "+.0300" not in whole
    for ends in ((first, summary([])), (summary([]), last)):
        group = {"none": ends[0], "ad": middle, "joint": ends[1]}
        assert ">+" not in dumbbells({"MLP": group}, "GAUC")


def test_photos_are_put_in_once_and_missing_ones_are_drawn(tmp_path):
    photo = tmp_path / "shoe.jpg"
    photo.write_bytes(b"\xff\xd8 a photo")
    page = report(_results(pictures=_pictures({"3": str(photo), "5": str(tmp_path / "gone")})))
    assert page.count("data:image/jpeg;base64,/9ggYSBwaG90bw==") == 1
    assert page.count('href="#row3"') == 4  # two candidates, and the behavior under both
    assert "1 of 2 images have no (small) photo file" in page
    assert page.count('class="weight negative"') == 1


@pytest.mark.parametrize("missing", ["findings", "pictures", "curves", "tables"])
def test_a_page_does_without(missing):
    changes: dict[str, Any] = {
        "findings": {
            "findings": {name: _finding({}) for name in ("without", "with", "never")},
            "oracle": None,
            "segment_sizes": {},
        },
        "pictures": {"pictures": None},
        "curves": {"study": _study(curves=())},
        "tables": {"study": _study(tables=(), bars=(), comparisons=())},
    }[missing]
    _read(report(_results(**changes)))
    text_report(_results(**changes))


def test_the_text_is_aligned_and_says_what_is_missing():
    text = text_report(_results())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table[:5]}) == 1
    assert "| with    | 3 of 3 | .6400 ± .0100 |" in text
    assert "- never/seed-0: ids < 0" in text
    assert "Not run yet: never/seed-1, never/seed-2" in text
    assert aligned([("a", "bb"), ("ccc", "d")]) == "| a   | bb |\n|-----|----|\n| ccc | d  |"


def test_figures():
    assert [figure(0.72214), figure(1.0), figure(-0.01), figure(math.nan)] == [
        ".7221",
        "1.0000",
        "−.0100",
        "–",
    ]
    assert [signed(0.01), signed(-0.01), signed(None)] == ["+.0100", "−.0100", "–"]
    assert interval(math.nan, math.nan) == ""


def test_a_scale_holds_its_values_and_has_round_ticks():
    scale = scale_of([0.61, 0.68, math.nan], 0.0, 100.0)
    assert 0 < scale(0.61) < scale(0.68) < 100
    assert scale.ticks() == pytest.approx([0.62, 0.64, 0.66, 0.68])
    assert scale_of([], 0.0, 1.0).ticks()
    assert math.isfinite(scale_of([0.5], 0.0, 1.0)(0.5))
    assert summary([]).n == 0
