"""Drawing in lanes: a heading with a figure at its right, and below it bars or a distribution.

Lanes need no axis of names at the left, so that the same layout serves a wide window and a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.bench.output.format import clipped
from vla_edge.bench.report.types import Latency

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
    """Of a lane: its name, a figure, and the role of its colour; what is wrong or in doubt says so in words."""

    name: str
    figure: str = ""
    role: str = "engine"
    doubted: bool = False

    @property
    def title(self) -> str:
        name = clipped(self.name, HEADING_LIMIT)
        marks = [" · WRONG"] * (self.role == "wrong") + [" · in doubt"] * self.doubted
        return "".join([name, *marks])


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
        longest = max(len(heading.title) * BOLD_PX + len(heading.figure) * PLAIN_PX for heading in headings)
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
        y = self.top(at) - 6
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
            self.axes.text(0, y, heading.figure, **quiet, **placed)
        elif heading.figure:
            self.axes.text(1, y, heading.figure, ha="right", **quiet, **placed)


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


def scale_from_zero(axes: Axes, high: float, canvas: Canvas) -> None:
    """An axis for bars, whose length counts from nothing."""
    scale_x(axes, 0.0, high, canvas)


def draw_ridge(
    axes: Axes, top: float, height: float, samples: Sequence[float], latency: Latency, role: str
) -> None:
    """How often each value came, as a silhouette; p50 as a line, p99 dotted, the largest as a dot.

    `latency` is of all samples, of which a summary has only some.
    """
    low, high = axes.get_xlim()
    log = axes.get_xscale() == "log"
    bins = 200
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    values = np.asarray(samples, dtype=np.float64)
    counts, _ = np.histogram(values, edges)
    held = np.flatnonzero(counts)
    first, last = (held[0], held[-1]) if len(held) else (0, bins - 1)
    counts, edges = counts[first : last + 1], edges[first : last + 2]
    base = top + height
    # the square root keeps a rare value in sight beside a common one
    tops = base - np.sqrt(counts / max(counts.max(), 1)) * (height - 3)
    axes.fill_between(
        np.repeat(edges, 2)[1:-1], np.repeat(tops, 2), base, color=INK[role], alpha=0.32, linewidth=0
    )
    axes.hlines(base, values.min(), latency.max_ms, color=INK[role], linewidth=1.4)
    p50, p99 = latency.p50_ms, latency.p99_ms
    axes.vlines(p50, top, base, color=INK[role], linewidth=2.6)
    axes.vlines(p99, top + height * 0.35, base, color=INK[role], linewidth=1.8, linestyle=(0, (1.2, 1.2)))
    axes.plot([latency.max_ms], [base], "o", color=INK[role], markersize=4.5, clip_on=False)


def draw_stack(axes: Axes, top: float, height: float, parts: Sequence[tuple[str, float, str]]) -> None:
    """Parts of a whole one after the other.

    Args:
        parts: role, length, and what to write inside where there is room for it.
    """
    left = 0.0
    span = axes.get_xlim()[1]
    width_px = axes.get_window_extent().width
    for role, length, text in parts:
        axes.barh(
            top + height / 2, length, height, left=left, color=INK[role], edgecolor=INK["card"], linewidth=1.2
        )
        if text and length / span * width_px > 7.2 * len(text) + 6:
            middle = left + length / 2
            axes.text(
                middle,
                top + height / 2 + 0.5,
                text,
                color=INK["card"],
                fontsize=SMALL_PX,
                ha="center",
                va="center",
            )
        left += length


def draw_bar(
    axes: Axes, top: float, height: float, length: float, role: str, *, hollow: bool = False
) -> None:
    """One bar from zero; a hollow one is outlined and hatched."""
    style: Style = (
        {"facecolor": "none", "edgecolor": INK[role], "hatch": "////"} if hollow else {"color": INK[role]}
    )
    axes.barh(top + height / 2, length, height, linewidth=1.2, **style)
