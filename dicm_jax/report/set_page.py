"""The page of a prepared set: its numbers, how they are spread, and groups to look at."""

import dataclasses
from collections.abc import Sequence

from dicm_jax.data.inspection import tables
from dicm_jax.data.inspection.examples import Example
from dicm_jax.data.inspection.facts import SetFacts
from dicm_jax.data.inspection.photos import Pictures
from dicm_jax.data.inspection.tables import Table
from dicm_jax.data.inspection.tally import Tally
from dicm_jax.report.document import document
from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.set_charts import distributions_of
from dicm_jax.report.set_examples import examples_of

_CIRCUMSTANCES = (
    "Items",
    "Counted in preparation",
    "Hashed fields",
    "Made of",
    "Feature tables",
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that the page shows.

    Attributes:
      facts: the numbers.
      tallies: of each split.
      examples: groups.
      pictures: of their items.
    """

    facts: SetFacts
    tallies: dict[str, Tally]
    examples: Sequence[Example]
    pictures: Pictures


def set_page(seen: Seen) -> str:
    """The whole page."""
    by_title = {table.title: table for table in tables.tables(seen.facts)}
    rest = [_table(by_title[name], titled=True) for name in _CIRCUMSTANCES if name in by_title]
    sections = [
        ("Distributions", distributions_of(seen.tallies)),
        ("Examples", examples_of(seen.examples, seen.pictures)),
        ("Splits", _of(by_title, "Splits")),
        ("ID fields", _of(by_title, "ID fields")),
        ("Circumstances", el("div", *rest, class_="cards") if rest else None),
    ]
    return document(f"Prepared set {seen.facts.name}", _header(seen.facts), sections)


def _header(facts: SetFacts) -> Markup:
    splits = ", ".join(facts.splits)
    lead = (
        f"Groups of impressions that share a user and what this user clicked before: "
        f"{tables.number(sum(s.groups for s in facts.splits.values()))} of them, in {splits}."
    )
    return el(
        "header",
        el("p", f"dicm_jax · prepared set · {facts.set}", class_="eyebrow"),
        el("h1", facts.name),
        el("p", lead, class_="lead"),
        None if facts.whole else el("p", tables.sample(facts), class_="note"),
        el("ul", *(_fact(*fact) for fact in _headline(facts)), class_="headline"),
    )


def _headline(facts: SetFacts) -> list[tuple[str, str, str]]:
    """The numbers that matter most: a figure, what it is, and more of it."""
    splits = facts.splits
    impressions = sum(split.impressions for split in splits.values())
    clicks = sum(split.clicks for split in splits.values())
    imaged = facts.items_with_image / facts.items if facts.items else None
    newest_name, newest = list(splits.items())[-1]
    each = "; ".join(f"{name} {tables.number(s.impressions)}" for name, s in splits.items())
    no_image = tables.number(facts.items - facts.items_with_image)
    return [
        (tables.number(impressions), "impressions", each),
        (
            tables.percent(clicks / impressions if impressions else None),
            "of them clicked",
            f"{tables.number(clicks)} clicks",
        ),
        (
            tables.percent(imaged),
            f"of {tables.number(facts.items)} items have an image",
            f"{no_image} without",
        ),
        (
            tables.percent(newest.cold_impressions),
            f"of {newest_name} impressions show a cold item",
            "one that the preparation marked as new at the split",
        ),
    ]


def _fact(figure: str, what: str, more: str) -> Markup:
    return el("li", el("b", figure), el("span", what), el("small", more))


# ---- Tables ---------------------------------------------------------------------------------


def _of(by_title: dict[str, Table], title: str) -> Markup | None:
    return _table(by_title[title]) if title in by_title else None


def _table(table: Table, *, titled: bool = False) -> Markup:
    head = [el("th", name, scope="col") if name else el("td") for name in table.head]
    rows = [
        el(
            "tr",
            el("th", row[0], scope="row"),
            *(el("td", cell, class_="number" if cell[:1].isdigit() else None) for cell in row[1:]),
        )
        for row in table.rows
    ]
    body = el("table", el("thead", el("tr", *head)), el("tbody", *rows))
    note = el("p", table.note, class_="note") if table.note else None
    whole = join([el("div", body, class_="scroll"), note])
    if not titled:
        return whole
    wide = "card wide" if len(table.head) > 4 else "card"
    return el("div", el("h3", table.title), whole, class_=wide)
