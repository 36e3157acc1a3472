"""What a plot is made of: shapes at places in percent, which the page's template draws at any width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_edge.bench.output.format import backend_label, clipped, printable
from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Latency, Row

from .axis import Axis, linear_axis, times_axis

HEADING_LIMIT = 42
RIDGE_BINS = 200
ROLE_LEGEND = (("engine", "engine"), ("torch", "PyTorch"), ("wrong", "wrong: its speed is worth nothing"))
SERIES = tuple(f"s{at}" for at in range(1, 9))

Legend = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shape:
    """Something drawn in a plot.

    Attributes:
        kind: how it looks, as the page's style sheet knows it.
        role: of its colour.
        left, width: along the axis, in percent.
        text: what is written in it where there is room, and told when it is pointed at.
        bottom, height: across, in percent; only of some kinds.
        path: of a "path", as SVG in 100 times 100.
    """

    kind: str
    role: str
    left: float = 0.0
    width: float = 0.0
    text: str = ""
    bottom: float = 0.0
    height: float = 0.0
    path: str = ""


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


@dataclass(frozen=True)
class Lane:
    """What stands below each other in a plot.

    Attributes:
        heading: above the rows.
        kind: of the rows, which says how high they are.
        ends: values that the axis must reach.
        draw: the shapes of each row on an axis.
    """

    heading: Heading
    kind: str
    ends: tuple[float, ...]
    draw: Callable[[Axis], Sequence[Sequence[Shape]]]


@dataclass(frozen=True)
class Plot:
    """A plot, ready to be drawn.

    Attributes:
        key: short name, unique within its group.
        title: what it shows.
        caption: how it is read.
        legend: role of a colour, and what has that colour.
        x: the axis along.
        y: the axis across, of a plot that has no lanes.
        lanes: heading, kind and rows of shapes of each.
        shapes: through all lanes, or on the two axes.
        names: of what is numbered in the plot.
        spans: whether it takes the page's whole width.
    """

    key: str
    title: str
    caption: str
    legend: Legend
    x: Axis
    y: Axis | None = None
    lanes: tuple[tuple[Heading, str, Sequence[Sequence[Shape]]], ...] = ()
    shapes: tuple[Shape, ...] = ()
    names: tuple[Heading, ...] = ()
    spans: bool = False


def lane_plot(
    key: str,
    title: str,
    caption: str,
    lanes: Sequence[Lane],
    axis: str | Axis,
    *,
    legend: Legend | None = None,
    from_zero: bool = True,
    marks: Mapping[float, str] | None = None,
    spans: bool = False,
) -> Plot | None:
    """A plot of lanes on one axis; None without any.

    Args:
        key, title, caption, spans: see `Plot`.
        axis: or its label, with the unit.
        legend: that of the rows' colours, if not given.
        from_zero: whether the axis begins there, as lengths need it.
        marks: values to draw a line at through all lanes, and its colour's role.
    """
    if not lanes:
        return None
    marks = marks or {}
    if isinstance(axis, str):
        ends = [*marks, *(end for lane in lanes for end in lane.ends)]
        axis = linear_axis(axis, max(ends)) if from_zero else times_axis(axis, ends)
    return Plot(
        key=key,
        title=title,
        caption=caption,
        legend=role_legend([lane.heading for lane in lanes]) if legend is None else legend,
        x=axis,
        lanes=tuple((lane.heading, lane.kind, lane.draw(axis)) for lane in lanes),
        shapes=tuple(Shape("mark", role, axis.at(value)) for value, role in marks.items()),
        spans=spans,
    )


def role_of(row: Row) -> str:
    """Which colour a row has: wrong before anything else."""
    return "wrong" if row.status == "wrong" else "torch" if row.is_torch else "engine"


def heading_of(row: Row, figure: str = "", *, what: str = "") -> Heading:
    """A row's heading; `what` is said behind its name."""
    name = f"{printable(backend_label(row))}{what}"
    return Heading(name, figure, role_of(row), bool(real_doubts(row)))


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
    role = heading.role

    def draw(axis: Axis) -> list[list[Shape]]:
        places = [axis.at(value) for value in samples]
        counts, edges = np.histogram(places, RIDGE_BINS, (0, 100))
        # the square root keeps a rare value in sight beside a common one
        tops = 100 - 90 * np.sqrt(counts / counts.max())
        held = np.flatnonzero(counts)
        bins = range(held[0], held[-1] + 1)
        path = f"M{edges[bins[0]]:g},100{''.join(f'V{tops[at]:.3g}H{edges[at + 1]:g}' for at in bins)}V100Z"
        first, last = min(places), axis.at(latency.max_ms)
        return [
            [
                Shape("path", role, path=path),
                Shape("base", role, first, last - first),
                Shape("p50", role, axis.at(latency.p50_ms)),
                Shape("p99", role, axis.at(latency.p99_ms)),
                Shape("end", role, last),
            ]
        ]

    return Lane(heading, "ridge", (min(samples), max(samples), latency.max_ms), draw)


def stack(heading: Heading, parts: Sequence[tuple[str, float, str]], *beside: float) -> Lane:
    """Parts of a whole one after the other.

    Args:
        parts: role, length, and what to write inside where there is room for it.
        beside: values that have a diamond.
    """

    def draw(axis: Axis) -> list[list[Shape]]:
        shapes, left = [], 0.0
        for role, part, text in parts:
            length = max(part, 0.0)
            shapes.append(Shape("part", role, axis.at(left), axis.at(left + length) - axis.at(left), text))
            left += length
        return [[*shapes, *(Shape("diamond", "fg", axis.at(value)) for value in beside)]]

    return Lane(heading, "stack", (sum(length for _, length, _ in parts), *beside), draw)


def bars(heading: Heading, *lengths: float, hollow: bool = False) -> Lane:
    """Bars from zero below each other, the last of them hollow if asked for."""

    def draw(axis: Axis) -> list[list[Shape]]:
        last = len(lengths) - 1
        kinds = ("hollow" if hollow and at == last else "bar" for at in range(len(lengths)))
        return [
            [Shape(kind, heading.role, 0.0, axis.at(length))]
            for kind, length in zip(kinds, lengths, strict=True)
        ]

    return Lane(heading, "bars", lengths, draw)
