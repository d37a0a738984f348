"""HTML and SVG from Python: elements whose text is escaped."""

import html
from collections.abc import Iterable
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None
_VOID = {"meta", "br", "circle", "line", "path", "rect", "use", "image", "stop"}


def el(tag: str, /, *children: Child, **attributes: Any) -> Markup:
    """An element; text is escaped, `Markup` is taken as it is, None is left out.

    Attributes are spelled as in Python: ``class_``, ``stroke_width``; None leaves one out.

    Example:
      >>> el("p", "1 < 2", class_="note")
      '<p class="note">1 &lt; 2</p>'
    """
    spelled = "".join(
        f' {_attribute(key)}="{html.escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{spelled}/>")
    return Markup(f"<{tag}{spelled}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after another."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(child, quote=False)
            for child in children
            if child is not None
        )
    )


_CAMEL = {"viewbox": "viewBox", "preserveaspectratio": "preserveAspectRatio"}


def _attribute(key: str) -> str:
    name = key.rstrip("_").replace("_", "-")
    return _CAMEL.get(name, name)


def _short(value: Any) -> str:
    """Numbers of drawings with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
