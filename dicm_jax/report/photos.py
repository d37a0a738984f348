"""Photos in a page: each is in it once, as a symbol that is used wherever the photo is shown."""

import base64
import colorsys
import math
from collections.abc import Mapping, Sequence

from dicm_jax.data.schema import NO_IMAGE
from dicm_jax.report.markup import Markup, el, join

DRAWN = (
    "drawn from the first principal coordinates of its content row, so that rows that are alike"
    " look alike"
)
"""What stands for a photo that is not there, in words."""
_WIDTH, _HEIGHT = 64, 96
_SVG = "http://www.w3.org/2000/svg"


def symbols(photos: Mapping[str, bytes], looks: Mapping[str, Sequence[float] | None]) -> Markup:
    """The symbols that `photo` shows.

    Args:
      photos: JPEG or PNG files by image row.
      looks: of all rows, the coordinates that a picture is drawn from where there is no photo;
        None: it says that there is none.
    """
    drawn = [_symbol(row, _picture(photos.get(row), look)) for row, look in looks.items()]
    drawn.append(_symbol(str(NO_IMAGE), _nothing()))
    return el("svg", *drawn, class_="symbols", aria_hidden="true", width=0, height=0)


def photo(row: int, label: str) -> Markup:
    """The photo of an image row, or what stands for it."""
    return el(
        "svg",
        el("use", href=f"#row{row}"),
        class_="photo",
        viewbox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def drawing(look: Sequence[float]) -> str:
    """An SVG file of what stands for a photo that is not there."""
    return str(
        el("svg", _swatch(look), xmlns=_SVG, viewbox=f"0 0 {_WIDTH} {_HEIGHT}", width=_WIDTH)
    )


def _symbol(row: str, drawing: Markup) -> Markup:
    return el("symbol", drawing, id=f"row{row}", viewbox=f"0 0 {_WIDTH} {_HEIGHT}")


def _picture(photo: bytes | None, look: Sequence[float] | None) -> Markup:
    if photo is not None:
        return _image(photo)
    return _nothing() if look is None else _swatch(look)


def _image(photo: bytes) -> Markup:
    kind = "png" if photo.startswith(b"\x89PNG") else "jpeg"
    data = f"data:image/{kind};base64,{base64.b64encode(photo).decode()}"
    return el(
        "image", href=data, width=_WIDTH, height=_HEIGHT, preserveaspectratio="xMidYMid slice"
    )


def _nothing() -> Markup:
    return join(
        [
            el("rect", width=_WIDTH, height=_HEIGHT, class_="nophoto"),
            el("text", "no photo", x=32, y=51, text_anchor="middle", class_="axis"),
        ]
    )


def _swatch(look: Sequence[float]) -> Markup:
    """A flower: ground, hue, petals and their depth from six coordinates."""
    hue = math.atan2(look[1], look[0]) / math.tau % 1
    fullness = min(math.hypot(look[0], look[1]) / 2.5, 1)
    ground = _rgb(hue, 0.86 - 0.06 * math.tanh(look[2]), 0.25 + 0.4 * fullness)
    petal = _rgb(hue + 0.06 * math.tanh(look[3]), 0.45, 0.35 + 0.45 * fullness)
    petals = 3 + round(2.5 * (1 + math.tanh(look[2])))
    depth = 0.18 + 0.14 * (1 + math.tanh(look[3]))
    turn = math.pi / 2 * math.tanh(look[4])
    size = 21 + 5 * math.tanh(look[5])
    points = []
    for number in range(72):
        angle = math.tau * number / 72
        radius = size * (1 - depth + depth * math.cos(petals * angle))
        points.append(
            f"{32 + radius * math.cos(angle + turn):.1f},{48 + radius * math.sin(angle + turn):.1f}"
        )
    return join(
        [
            el("rect", width=_WIDTH, height=_HEIGHT, fill=ground),
            el("path", d=f"M{'L'.join(points)}Z", fill=petal),
            el("circle", cx=32, cy=48, r=size * 0.2, fill=ground),
        ]
    )


def _rgb(hue: float, lightness: float, saturation: float) -> str:
    channels = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
