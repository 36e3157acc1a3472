"""A plot of lanes on one axis, and what a lane can hold: a distribution, parts of a whole, bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.bench.output.format import backend_label, printable
from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Latency, Row

from .lanes import Heading, Lanes, Style, scale_x
from .svg import INK, SERIES, SMALL_PX, Canvas, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIDGE_PX = 30
STACK_PX = 22
BAR_PX = 13
BAR_GAP_PX = 2
ROLE_LEGEND = (("engine", "engine"), ("torch", "PyTorch"), ("wrong", "wrong: its speed is worth nothing"))

Legend = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lane:
    """What stands below each other in a plot.

    Attributes:
        heading: above the body.
        height: of the body, in pixels.
        ends: values that the axis must reach.
        draw: the body, from its top on.
    """

    heading: Heading
    height: float
    ends: tuple[float, ...]
    draw: Callable[[Axes, float], object]


def lane_plot(
    key: str,
    title: str,
    caption: str,
    lanes: Sequence[Lane],
    label: str,
    *,
    legend: Legend | None = None,
    from_zero: bool = True,
    until: float = 0.0,
    marks: Mapping[float, str] | None = None,
    spans: bool = False,
) -> Plot | None:
    """A plot of lanes; None without any.

    Args:
        key, title, caption, spans: see `Plot`.
        label: of the axis, with its unit.
        legend: that of the rows' colours, if not given.
        from_zero: whether the axis begins there, as lengths need it.
        until: where the axis ends; 0 for just behind the largest value.
        marks: values to draw a dashed line at through all lanes, and its colour's role.
    """
    if not lanes:
        return None
    marks = marks or {}
    headings = [lane.heading for lane in lanes]
    ends = [*marks, *(end for lane in lanes for end in lane.ends)]

    def draw(canvas: Canvas) -> Figure:
        body_px = max(lane.height for lane in lanes)
        frame = Lanes(canvas, headings, body_px, label)
        scale_x(frame.axes, 0.0 if from_zero else min(ends), max(ends), canvas)
        if until:
            frame.axes.set_xlim(0.0, until)
        for value, role in marks.items():
            frame.axes.axvline(value, color=INK[role], linewidth=1.6, linestyle=(0, (5, 3)))
        for at, lane in enumerate(lanes):
            lane.draw(frame.axes, frame.top(at))
        return frame.figure

    return Plot(
        key,
        title,
        caption,
        role_legend([lane.heading for lane in lanes]) if legend is None else legend,
        draw,
        spans,
    )


def role_of(row: Row) -> str:
    """Which colour a row has: wrong before anything else."""
    return "wrong" if row.status == "wrong" else "torch" if row.is_torch else "engine"


def heading_of(row: Row, figure: str = "", short: str = "", *, what: str = "") -> Heading:
    """A row's heading; `what` is said behind its name."""
    name = f"{printable(backend_label(row))}{what}"
    return Heading(name, figure, role_of(row), bool(real_doubts(row)), short)


def role_legend(headings: Sequence[Heading]) -> Legend:
    """The colours that these have, and what each says."""
    roles = {heading.role for heading in headings}
    return tuple(entry for entry in ROLE_LEGEND if entry[0] in roles)


def series_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name; with more names than colours they begin anew."""
    return {name: SERIES[at % len(SERIES)] for at, name in enumerate(names)}


def ridge(heading: Heading, samples: Sequence[float], latency: Latency) -> Lane:
    """How often each value came, as a silhouette; p50 as a line, p99 dotted, the largest as a dot.

    `latency` is of all samples, of which a summary has only some.
    """
    ink = INK[heading.role]
    values = np.asarray(samples, dtype=np.float64)

    def draw(axes: Axes, top: float) -> None:
        low, high = axes.get_xlim()
        space = np.geomspace if axes.get_xscale() == "log" else np.linspace
        counts, edges = np.histogram(values, space(low, high, 201))
        held = np.flatnonzero(counts)
        first, last = (held[0], held[-1]) if len(held) else (0, len(counts) - 1)
        counts, edges = counts[first : last + 1], edges[first : last + 2]
        base = top + RIDGE_PX
        # the square root keeps a rare value in sight beside a common one
        tops = base - np.sqrt(counts / max(counts.max(), 1)) * (RIDGE_PX - 3)
        axes.fill_between(
            np.repeat(edges, 2)[1:-1], np.repeat(tops, 2), base, color=ink, alpha=0.32, linewidth=0
        )
        axes.hlines(base, values.min(), latency.max_ms, color=ink, linewidth=1.4)
        axes.vlines(latency.p50_ms, top, base, color=ink, linewidth=2.6)
        dotted = (0, (1.2, 1.2))
        axes.vlines(latency.p99_ms, top + RIDGE_PX * 0.35, base, color=ink, linewidth=1.8, linestyle=dotted)
        axes.plot([latency.max_ms], [base], "o", color=ink, markersize=4.5, clip_on=False)

    return Lane(heading, RIDGE_PX, (values.min(), values.max(), latency.max_ms), draw)


def stack(heading: Heading, parts: Sequence[tuple[str, float, str]], *, reach: float = 0.0) -> Lane:
    """Parts of a whole one after the other.

    Args:
        parts: role, length, and what to write inside where there is room for it.
        reach: a value beside the stack that the axis must reach.
    """

    def draw(axes: Axes, top: float) -> None:
        left, middle = 0.0, top + STACK_PX / 2
        pixels = axes.get_window_extent().width / axes.get_xlim()[1]
        for role, length, text in parts:
            axes.barh(
                middle, length, STACK_PX, left=left, color=INK[role], edgecolor=INK["card"], linewidth=1.2
            )
            if text and length * pixels > 7.2 * len(text) + 6:
                centred: Style = {"ha": "center", "va": "center", "fontsize": SMALL_PX, "color": INK["card"]}
                axes.text(left + length / 2, middle + 0.5, text, **centred)
            left += length

    return Lane(heading, STACK_PX, (sum(length for _, length, _ in parts), reach), draw)


def bars(heading: Heading, *lengths: float, hollow: bool = False) -> Lane:
    """Bars from zero below each other, the last of them hollow if asked for."""

    def draw(axes: Axes, top: float) -> None:
        for at, length in enumerate(lengths, 1):
            look = bar_style(heading.role, hollow=hollow and at == len(lengths))
            axes.barh(top + BAR_PX / 2, length, BAR_PX, linewidth=1.2, **look)
            top += BAR_PX + BAR_GAP_PX

    return Lane(heading, len(lengths) * (BAR_PX + BAR_GAP_PX) - BAR_GAP_PX, lengths, draw)


def bar_style(role: str, *, hollow: bool = False) -> Style:
    """A full bar, or one outlined and hatched."""
    return {"facecolor": "none", "edgecolor": INK[role], "hatch": "////"} if hollow else {"color": INK[role]}
