"""What a plot is made of: shapes at values of its axes, which the page's template draws at any width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vla_edge.bench.output.format import backend_label, clipped, printable
from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Latency, Row

from .axis import Axis, linear_axis, times_axis

HEADING_LIMIT = 42
ROLE_LEGEND = (("engine", "engine"), ("torch", "PyTorch"), ("wrong", "wrong: its speed is worth nothing"))
SERIES = tuple(f"s{at}" for at in range(1, 9))

Legend = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shape:
    """Something drawn in a plot, at values of its axes.

    Attributes:
        kind: how it looks, as the page's style sheet knows it.
        role: of its colour.
        left, right: along the axis; without a right end it is as wide as its kind.
        text: what is written in it where there is room, and told when it is pointed at.
        bottom: across, where there is an axis.
        height: of a column, or above `bottom`, in percent.
        samples: of which a path is made.
    """

    kind: str
    role: str
    left: float | None = None
    right: float | None = None
    text: str = ""
    bottom: float = 0.0
    height: float = 0.0
    samples: Sequence[float] = ()

    @property
    def ends(self) -> tuple[float, ...]:
        """What an axis must reach."""
        return (*self.samples, *(end for end in (self.left, self.right) if end is not None))


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
    """What stands below each other in a plot: a heading and rows of shapes, whose kind says how high they are."""

    heading: Heading
    kind: str
    rows: Sequence[Sequence[Shape]]


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
    lanes: Sequence[Lane] = ()
    shapes: Sequence[Shape] = ()
    names: Sequence[Heading] = ()
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
        shapes = [shape for lane in lanes for row in lane.rows for shape in row]
        ends = [*marks, *(end for shape in shapes for end in shape.ends)]
        axis = linear_axis(axis, max(ends)) if from_zero else times_axis(axis, ends)
    return Plot(
        key=key,
        title=title,
        caption=caption,
        legend=role_legend([lane.heading for lane in lanes]) if legend is None else legend,
        x=axis,
        lanes=lanes,
        shapes=[Shape("mark", role, value) for value, role in marks.items()],
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
    shapes = [
        Shape("path", role, samples=samples),
        Shape("base", role, min(samples), latency.max_ms),
        Shape("p50", role, latency.p50_ms),
        Shape("p99", role, latency.p99_ms),
        Shape("end", role, latency.max_ms),
    ]
    return Lane(heading, "ridge", [shapes])


def stack(heading: Heading, parts: Iterable[tuple[str, float, str]], *beside: float) -> Lane:
    """Parts of a whole one after the other.

    Args:
        parts: role, length, and what to write inside where there is room for it.
        beside: values that have a diamond.
    """
    shapes, left = [], 0.0
    for role, length, text in parts:
        shapes.append(Shape("part", role, left, left + max(length, 0.0), text))
        left += max(length, 0.0)
    return Lane(heading, "stack", [[*shapes, *(Shape("diamond", "fg", value) for value in beside)]])


def bars(heading: Heading, *lengths: float, hollow: bool = False) -> Lane:
    """Bars from zero below each other, the last of them hollow if asked for."""
    kinds = ["bar"] * (len(lengths) - hollow) + ["hollow"] * hollow
    shapes = [Shape(kind, heading.role, 0.0, length) for kind, length in zip(kinds, lengths, strict=True)]
    return Lane(heading, "bars", [[shape] for shape in shapes])
