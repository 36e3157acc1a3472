"""Matplotlib figures as SVG that can stand inside a page: themed by CSS variables, text as text, ids its own.

A figure is drawn with one marker colour for each role; in the SVG each marker becomes `var(--role)`, so that
one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# roles of the page's CSS variables; `s1` to `s8` tell the parts of a whole apart
ROLES = ("fg", "muted", "grid", "card", "engine", "torch", "wrong", *(f"s{at}" for at in range(1, 9)))
SERIES = tuple(role for role in ROLES if re.fullmatch(r"s\d", role))
INK = {role: f"#fe{at:02x}fd" for at, role in enumerate(ROLES)}
_ROLE_OF = {marker: role for role, marker in INK.items()}

FONT_PX = 13
SMALL_PX = 11.5
_PX_PER_INCH = 72  # matplotlib's SVG counts in points, and the view box makes pixels of them

_SVG = "http://www.w3.org/2000/svg"
_PAINT = re.compile(r"#fe[0-9a-f]{2}fd")
_SHORTHAND = re.compile(r"font:\s*(?:(\d+|bold|normal)\s+)?([\d.]+)px[^;]*")
_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
# a hundredth of a pixel is more than a screen shows
_DECIMAL = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(?:url\(|href=\")#([^)\"]+)")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    # a name with two dollar signs is a name, not a formula
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": "DejaVu Sans",
    "font.size": FONT_PX,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Canvas:
    """How wide a figure is drawn, in CSS pixels; a narrow one is for a phone held upright."""

    width: int
    narrow: bool


WIDE = Canvas(1040, False)
HALF = Canvas(500, False)
NARROW = Canvas(330, True)


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn at any width.

    Attributes:
        key: short name, unique within its group.
        title: what it shows.
        caption: how it is read.
        legend: role of a colour, and what has that colour.
        draw: makes the figure for a canvas, inside the settings of `render`.
        spans: whether it takes the page's whole width.
    """

    key: str
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...]
    draw: Callable[[Canvas], Figure]
    spans: bool = False


@dataclass(frozen=True)
class Drawing:
    """A plot as SVG elements for wide and for narrow windows."""

    plot: Plot
    wide: str
    narrow: str


def render(plot: Plot, prefix: str) -> Drawing:
    """Draw a plot twice.

    Args:
        prefix: what no other drawing of this key on the page has.
    """
    wide = WIDE if plot.spans else HALF
    return Drawing(
        plot,
        to_svg(plot.draw, wide, f"{prefix}-{plot.key}-w", plot.title),
        to_svg(plot.draw, NARROW, f"{prefix}-{plot.key}-n", plot.title),
    )


def to_svg(draw: Callable[[Canvas], Figure], canvas: Canvas, prefix: str, label: str) -> str:
    """One figure as an `<svg>` element: the same bytes for the same data.

    Matplotlib's ids are hashes of what they name and of `prefix`, so that those of two figures do not meet.
    """
    import matplotlib

    file = io.BytesIO()
    settings = {**_SETTINGS, "svg.hashsalt": prefix}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # the browser has glyphs that the font of the layout lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        draw(canvas).savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue(), label)


def new_figure(canvas: Canvas, height: float) -> Figure:
    """An empty figure of this many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(canvas.width / _PX_PER_INCH, height / _PX_PER_INCH), dpi=_PX_PER_INCH)


def _inline(svg: bytes, label: str) -> str:
    """Turn a file into an element: no fixed size, roles for colours, nothing that is not used."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib has just written it
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    wanted = set(_REFERENCE.findall(svg.decode()))
    for element in root.iter():
        if element.get("id") not in wanted:
            element.attrib.pop("id", None)
        if element.text and not element.text.strip():
            element.text = None
        element.tail = None
        for name, value in element.attrib.items():
            element.set(name, _themed(value))
    root.attrib.update({"role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _themed(value: str) -> str:
    """An attribute with the page's colours and font, on one line."""
    short = _DECIMAL.sub(lambda match: f"{float(match[0]):.2f}", " ".join(value.split()))
    painted = _PAINT.sub(lambda match: f"var(--{_ROLE_OF[match[0]]})", short)
    return _FAMILY.sub("", _SHORTHAND.sub(_font, painted))


def _font(match: re.Match[str]) -> str:
    """Size and weight only: the family is the page's."""
    weight = "600" if match[1] in ("bold", "700") else "400"
    return f"font-size: {match[2]}px; font-weight: {weight}"
