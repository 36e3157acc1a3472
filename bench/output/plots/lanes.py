"""Drawing in lanes: a heading with a figure at its right, and below it bars or a distribution.

Lanes need no axis of names at the left, so that the same layout serves a wide window and a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.bench.output.format import clipped

from .svg import FONT_PX, INK, SMALL_PX, Canvas, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADING_PX = 19
LINE_PX = 16
# widths of a letter, to tell whether two texts fit beside each other
BOLD_PX = 8.4
PLAIN_PX = 6.8
GAP_PX = 13
MARGIN_PX = 8
AXIS_PX = 46
LOG_ABOVE = 8  # largest over smallest value, past which a linear axis hides the small ones
LEAST_PART = 1e-9  # of the largest value: below it a value would only stretch the axis
LOG_IN_WORDS = "log scale, not from 0"
HEADING_LIMIT = 42


Style = dict[str, Any]  # arguments of matplotlib


@dataclass(frozen=True)
class Heading:
    """Of a lane: its name, a figure, and the role of its colour; what is wrong or in doubt says so in words.

    `short` is the figure where there is less room, "" for the same.
    """

    name: str
    figure: str = ""
    role: str = "engine"
    doubted: bool = False
    short: str = ""

    @property
    def title(self) -> str:
        name = clipped(self.name, HEADING_LIMIT)
        marks = [" · WRONG"] * (self.role == "wrong") + [" · in doubt"] * self.doubted
        return "".join([name, *marks])

    def figure_on(self, canvas: Canvas) -> str:
        return self.short or self.figure if canvas.narrow else self.figure


class Lanes:
    """A figure of equal lanes whose y axis counts pixels downwards; the headings are written at once.

    Args:
        body_px: height of a lane below its heading.
        label: of the x axis, with its unit.
    """

    def __init__(self, canvas: Canvas, headings: Sequence[Heading], body_px: float, label: str) -> None:
        self.canvas = canvas
        self.body_px = body_px
        # where a name and its figure do not fit one line of a phone, they take two, in every lane
        longest = max(
            len(heading.title) * BOLD_PX + len(heading.figure_on(canvas)) * PLAIN_PX for heading in headings
        )
        self._split = longest > canvas.width - 4 * MARGIN_PX
        self._heading_px = HEADING_PX + (LINE_PX if self._split else 0)
        plot_px = len(headings) * self._lane_px
        height = plot_px + AXIS_PX + MARGIN_PX
        self.figure = new_figure(canvas, height)
        box = (MARGIN_PX / canvas.width, AXIS_PX / height, 1 - 2 * MARGIN_PX / canvas.width, plot_px / height)
        self.axes: Axes = self.figure.add_axes(box)
        self.axes.set_ylim(plot_px, 0)
        self.axes.set_yticks([])
        style_axes(self.axes, x_label=label)
        self.axes.spines["left"].set_visible(False)
        for at, heading in enumerate(headings):
            self._write(at, heading)

    @property
    def _lane_px(self) -> float:
        return self._heading_px + self.body_px + GAP_PX

    def top(self, at: int) -> float:
        """Where the body of lane number `at` begins, in pixels from the top."""
        return at * self._lane_px + self._heading_px

    def _write(self, at: int, heading: Heading) -> None:
        """The name at the left edge and the figure at the right one, or below; lines pass behind them."""
        y, figure = self.top(at) - 6, heading.figure_on(self.canvas)
        quiet: Style = {"color": INK["muted"], "fontsize": SMALL_PX}
        named: Style = {
            "color": INK["wrong"] if heading.role == "wrong" else INK["fg"],
            "fontsize": FONT_PX,
            "fontweight": "bold",
        }
        placed: Style = {
            "transform": self.axes.get_yaxis_transform(),
            "bbox": {"facecolor": INK["card"], "edgecolor": "none", "pad": 1.2},
        }
        self.axes.text(0, y - (LINE_PX if self._split else 0), heading.title, **named, **placed)
        if self._split:
            self.axes.text(0, y, figure, **quiet, **placed)
        elif figure:
            self.axes.text(1, y, figure, ha="right", **quiet, **placed)


def framed_axes(canvas: Canvas, height: float, x_label: str, y_label: str) -> Axes:
    """The axes of a new figure, with room for their labels."""
    figure = new_figure(canvas, height)
    left = 62 / canvas.width
    axes = figure.add_axes((left, 52 / height, 1 - left - 12 / canvas.width, 1 - 66 / height))
    style_axes(axes, x_label=x_label, y_label=y_label)
    axes.grid(axis="y", color=INK["grid"], linewidth=1)
    return axes


def style_axes(axes: Axes, *, x_label: str, y_label: str = "") -> None:
    """A quiet frame: light lines to read along, small figures."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK["grid"])
    axes.tick_params(which="both", colors=INK["muted"], labelsize=SMALL_PX, length=0, pad=6)
    axes.grid(axis="x", color=INK["grid"], linewidth=1)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, color=INK["muted"], fontsize=SMALL_PX, labelpad=6)
    if y_label:
        axes.set_ylabel(y_label, color=INK["muted"], fontsize=SMALL_PX, labelpad=6)


def scale_x(axes: Axes, low: float, high: float, canvas: Canvas) -> None:
    """Choose the axis: from zero, or logarithmic where the values lie far apart, and then its label says so."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if low > high * LEAST_PART and high / low > LOG_ABOVE:
        axes.set_xscale("log")
        axes.set_xlabel(f"{axes.get_xlabel()} ({LOG_IN_WORDS})")
        axes.set_xlim(low / 1.12, high * 1.12)
        decades = np.log10(high / low)
        many = decades > (1.2 if canvas.narrow else 2.4)
        axes.xaxis.set_major_locator(
            LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if many else (1, 2, 5))
        )
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0.0, high * 1.03 if high > LEAST_PART else 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(4 if canvas.narrow else 7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
