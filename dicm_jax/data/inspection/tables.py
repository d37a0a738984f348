"""The numbers of an inspection as tables of words, for terminals and for pages."""

import dataclasses
from collections.abc import Callable, Sequence

from dicm_jax.data.inspection.counting import Spread
from dicm_jax.data.inspection.facts import ContentFacts, FieldFacts, SetFacts, SplitFacts

NONE = "–"
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of words.

    Attributes:
      title: of it.
      head: of its columns; the first one names the rows.
      rows: as wide as the head.
      note: how it is to be read.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def tables(facts: SetFacts) -> list[Table]:
    """All tables of a set."""
    made = [_splits(facts), _fields(facts), _images(facts), _contents(facts), _hashed(facts)]
    made += [_notes(facts), _sources(facts)]
    return [table for table in made if table.rows]


def headline(facts: SetFacts) -> str:
    """The set in a line or two."""
    splits = facts.splits.values()
    counts = {
        "items": facts.items,
        "groups": sum(split.groups for split in splits),
        "impressions": sum(split.impressions for split in splits),
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    line = f"{facts.set}: prepared set {facts.name!r}, {said}, {size(facts.bytes)}"
    return line if facts.whole else f"{line}\n{sample(facts)}"


def sample(facts: SetFacts) -> str:
    """What was looked at, where it was not all."""
    blocks = ", ".join(
        f"{split.blocks_looked_at:,} of {split.blocks:,} blocks of {name}"
        for name, split in facts.splits.items()
    )
    return (
        f"An even sample: {blocks}. Counts of groups, impressions, behaviors and clicks, and cold"
        " impressions, are of all blocks; users and keys are at least, and keys never seen at most,"
        " what is said; the rest is of the sample."
    )


def text(facts: SetFacts) -> str:
    """All tables, aligned."""
    return "\n\n".join([headline(facts), *map(_aligned, tables(facts))])


def percent(share: float | None) -> str:
    """A share, to a hundredth of a percent."""
    return NONE if share is None else f"{100 * share:.2f} %"


def date(moment: str | None) -> str:
    """A time; midnight, which logs of days have, as its date."""
    return NONE if moment is None else moment.removesuffix(" 00:00:00")


def size(n_bytes: float) -> str:
    """Bytes in binary units.

    >>> size(458752)
    '448.0 KiB'
    """
    power = 0
    while n_bytes >= 1024 and power < len(_BINARY) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{n_bytes:,.1f} {_BINARY[power]}" if power else f"{n_bytes:,.0f} B"


def number(value: float | None) -> str:
    """A count or another number."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return NONE
    return f"{spread.mean:.2f} / {spread.median:g} / {spread.most:,}"


_Column = Callable[[SplitFacts], str]
_OF_SPLIT: dict[str, _Column] = {
    "groups": lambda split: number(split.groups),
    "users": lambda split: number(split.users),
    "impressions": lambda split: number(split.impressions),
    "behaviors": lambda split: number(split.behaviors),
    "clicks": lambda split: number(split.clicks),
    "click rate": lambda split: percent(split.click_rate),
    "first group, UTC": lambda split: date(split.first),
    "last group, UTC": lambda split: date(split.last),
    "behaviors per group, mean / median / most": lambda s: _spread(s.behaviors_per_group),
    "groups without behaviors": lambda s: percent(
        s.behaviors_per_group.none_share if s.behaviors_per_group else None
    ),
    "impressions per group, mean / median / most": lambda s: _spread(s.impressions_per_group),
    "impressions of cold items": lambda split: percent(split.cold_impressions),
    "clicks on cold items": lambda split: percent(split.cold_clicks),
    "impressions with an image": lambda split: percent(split.impressions_with_image),
    "behaviors with an image": lambda split: percent(split.behaviors_with_image),
    "shard files": lambda split: number(split.shards),
    "records (blocks)": lambda split: number(split.blocks),
    "records per shard, least / most": lambda s: " / ".join(map(number, s.blocks_per_shard)),
    "on disk": lambda split: size(split.bytes),
    "on disk, a group": lambda split: size(split.bytes_per_group),
    "records, uncompressed": lambda split: size(split.uncompressed_bytes),
}


def _splits(facts: SetFacts) -> Table:
    rows = [
        (name, *(column(split) for split in facts.splits.values()))
        for name, column in _OF_SPLIT.items()
    ]
    note = (
        f"A record holds {facts.block_groups} groups. Cold items: those that the preparation marked"
        " as new at the split."
    )
    return Table("Splits", ("", *facts.splits), rows, note)


def _fields(facts: SetFacts) -> Table:
    held_out = list(facts.fields[0].unseen) if facts.fields else []
    some_hashed = any(field.expected_collisions is not None for field in facts.fields)
    head = ("field", "level", "vocabulary", "keys", "keys in train")
    head += tuple(f"unseen in {name}" for name in held_out)
    head += ("collisions",) if some_hashed else ()

    def row(field: FieldFacts) -> tuple[str, ...]:
        cells = (field.name, field.level, field.vocabulary)
        cells += (number(field.keys), number(field.keys_in_train))
        cells += tuple(percent(field.unseen[name]) for name in held_out)
        return cells + ((percent(field.expected_collisions),) if some_hashed else ())

    note = (
        "Unseen: share of impressions (of behaviors for a field of these) whose key no field of the"
        " vocabulary had in train."
    )
    if some_hashed:
        note += " Collisions: expected share of values that share a hashed key with another."
    return Table("ID fields", head, [row(field) for field in facts.fields], note)


def _images(facts: SetFacts) -> Table:
    imaged = facts.items_with_image / facts.items if facts.items else None
    rows = [
        ("items", number(facts.items)),
        ("items with an image", f"{number(facts.items_with_image)} ({percent(imaged)})"),
        ("items shown in train", number(facts.items_shown_in_train)),
        (
            "impressions on the most shown 1 % of items",
            percent(facts.top_percent_of_impressions),
        ),
    ]
    return Table("Items", ("", "all"), rows)


def _contents(facts: SetFacts) -> Table:
    def row(content: str, table: ContentFacts) -> tuple[str, ...]:
        known = (table.encoder or NONE, number(table.width), table.storage or NONE)
        on_disk = NONE if table.bytes is None else size(table.bytes)
        return (content, number(table.rows), *known, on_disk, table.path)

    head = ("feature table", "rows", "encoder", "width", "storage", "on disk", "folder")
    problems = [
        f"{content}: cannot be opened: {table.problem}"
        for content, table in facts.contents.items()
        if table.problem
    ]
    rows = [row(content, table) for content, table in facts.contents.items()]
    return Table("Feature tables", head, rows, "\n".join(problems))


def _hashed(facts: SetFacts) -> Table:
    rows = [
        (
            field,
            number(of_it["values"]),
            number(of_it["keys"]),
            percent(of_it["expected_collision_share"]),
        )
        for field, of_it in facts.hashed.items()
    ]
    head = ("hashed", "values", "keys", "expected collisions")
    return Table(
        "Hashed fields", head, rows, "Values: exact up to 4,095, else estimated to about 2 %."
    )


def _notes(facts: SetFacts) -> Table:
    rows = [(name.replace("_", " "), number(value)) for name, value in facts.notes.items()]
    return Table("Counted in preparation", ("", "count"), rows)


def _sources(facts: SetFacts) -> Table:
    rows = [(path, size(length)) for path, length in facts.source.items()]
    return Table("Made of", ("file", "length"), rows)


def _aligned(table: Table) -> str:
    """The table with columns of even width: words to the left, numbers to the right."""
    lines = [table.head, *table.rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(table.head))]
    left = [_is_words([row[column] for row in table.rows]) for column in range(len(widths))]
    left[0] = True

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, left, strict=True)
        words = (cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells)
        return ("  " + "  ".join(words)).rstrip()

    rule = "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))
    note = [f"  {text}" for text in table.note.splitlines()]
    return "\n".join([table.title.upper(), line(table.head), rule, *map(line, table.rows), *note])


def _is_words(cells: Sequence[str]) -> bool:
    return not any(cell[:1].isdigit() for cell in cells) and any(cell != NONE for cell in cells)
