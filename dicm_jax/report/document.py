"""A page: one HTML file with everything in it, for light and dark screens."""

import importlib.resources
from collections.abc import Sequence

from dicm_jax.report.markup import Markup, el


def document(title: str, header: Markup, sections: Sequence[tuple[str, Markup | None]]) -> str:
    """The whole file.

    Args:
      title: of the window.
      header: what comes first.
      sections: their titles and what is in them; those with nothing are left out.
    """
    present = [(name, body) for name, body in sections if body]
    links = [el("a", name, href=f"#{_anchor(name)}") for name, _ in present]
    bodies = [el("section", el("h2", name), body, id=_anchor(name)) for name, body in present]
    style = importlib.resources.files("dicm_jax.report").joinpath("style.css").read_text("utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(style)),
    )
    body = el("body", header, el("nav", *links, aria_label="Sections"), el("main", *bodies))
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
