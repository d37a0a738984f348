"""Groups of a prepared set as rows of photos."""

from collections.abc import Sequence

from dicm_jax.data.inspection import tables
from dicm_jax.data.inspection.examples import Example, ShownItem
from dicm_jax.data.inspection.facts import moment
from dicm_jax.data.inspection.photos import Pictures
from dicm_jax.data.inspection.tables import NONE
from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.report.markup import Markup, el, join
from dicm_jax.report.photos import DRAWN, photo, symbols


def examples_of(examples: Sequence[Example], pictures: Pictures) -> Markup | None:
    """Cards of groups: photos of what was clicked before, and of what was shown."""
    if not examples:
        return None
    cards = (_card(number, example, pictures) for number, example in enumerate(examples, 1))
    drawn = symbols(
        {str(row): file for row, file in pictures.photos.items()},
        {str(row): look for row, look in pictures.looks.items()},
    )
    text = (
        f"Groups of {examples[0].split}, drawn at random, those with some behaviors and both"
        " clicked and other impressions first. Above, what the user had clicked before, oldest"
        " first; below, what was shown, clicked items first and marked. "
    )
    return join([el("p", text + _caption(pictures), class_="note"), drawn, *cards])


def _caption(pictures: Pictures) -> str:
    """What the pictures are, in words."""
    count, without = len(pictures.looks), len(pictures.looks) - len(pictures.photos)
    also = [
        f" {files} photo file{'s' if files > 1 else ''} could not be used: {reason}."
        for reason, files in pictures.bad.items()
    ]
    blank = sum(row == NO_IMAGE for row in pictures.row.values())
    if blank:
        also.append(f" {blank} of {len(pictures.row)} items have no image.")
    instead = DRAWN if any(look is not None for look in pictures.looks.values()) else "left blank"
    if not without:
        said = f"Photos of {count} items."
    elif not pictures.photos:
        said = f"Each picture is {instead}."
    else:
        said = f"{without} of {count} images have no photo file: these are {instead}."
    return "".join([said, *also])


def _card(number: int, example: Example, pictures: Pictures) -> Markup:
    second = moment(example.second)
    when = f"{tables.date(second)}, " if second else ""
    newest = len(example.behaviors) < example.all_behaviors
    before = f"{'newest ' * newest}{len(example.behaviors)} of {example.all_behaviors} behaviors"
    shown = (
        f"{len(example.impressions)} of {example.all_impressions} impressions, {example.all_clicks}"
        " clicked"
    )
    behaviors = [
        el("div", photo(pictures.row[item], f"behavior, item {item}"), class_="shown")
        for item in example.behaviors
    ]
    return el(
        "article",
        el("h3", f"Group {number}", el("small", f"{when}user {example.user}")),
        _strip("clicked before", before, behaviors),
        _strip("shown", shown, [_shown(shown, pictures) for shown in example.impressions]),
        class_="user",
    )


def _strip(name: str, count: str, photos: Sequence[Markup]) -> Markup:
    row = el("div", *photos, class_="shelf") if photos else el("div", NONE, class_="shelf")
    return el("div", el("h4", name, el("small", count)), row, class_="strip-of")


def _shown(shown: ShownItem, pictures: Pictures) -> Markup:
    words = ["clicked" if shown.clicked else "not clicked", *(["cold"] if shown.cold else [])]
    label = f"item {shown.item}, {', '.join(words)}"
    marks = [el("span", word, class_=word) for word in words if word != "not clicked"]
    return el(
        "div",
        photo(pictures.row[shown.item], label),
        el("div", *marks, class_="marks"),
        class_="shown clicked" if shown.clicked else "shown",
        title=label,
    )
