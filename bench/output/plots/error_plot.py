"""The plot of speed against error, with a name at each point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.bench.output.format import backend_label, printable
from vla_edge.bench.report.types import Row

from .drawable import NAMES_DRAWN
from .lane_plot import heading_of, role_legend
from .lanes import LEAST_PART, Heading, Style, framed_axes, scale_x
from .svg import INK, SMALL_PX, Canvas, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCATTER_PX = 360
NAME_STEP_PX = 15
# left, lower, right and upper edge in pixels
Box = tuple[float, float, float, float]
# p50 in ms, error in m/s, and what it is called
Point = tuple[float, float, Heading]


def error_plot(rows: Sequence[Row]) -> Plot | None:
    compared = [(row, row.step, row.parity) for row in rows if row.step and row.parity]
    points = [
        (step.p50_ms, parity.max_abs_mps, heading_of(row))
        for row, step, parity in compared
        if parity.max_abs_mps is not None
    ]
    if len(points) < 2:
        return None
    caption = (
        "Left is faster, low is closer to PyTorch FP32 on the golden samples. A cross is a wrong result. "
        "The scale of errors is logarithmic."
    )
    hidden = [printable(backend_label(row)) for row in rows if row.parity and not row.parity.finite]
    if hidden:
        more = f" and {len(hidden) - NAMES_DRAWN} more" if len(hidden) > NAMES_DRAWN else ""
        names = ", ".join(hidden[:NAMES_DRAWN])
        caption += f" Not drawn, since its actions are NaN or infinite: {names}{more}."
    legend = role_legend([heading for _, _, heading in points])
    return Plot("error", "Speed against error", caption, legend, partial(_scatter, points=points))


def _scatter(canvas: Canvas, points: Sequence[Point]) -> Figure:
    """p50 across, error upwards on a scale that is linear up to the smallest error and logarithmic above."""
    from matplotlib.ticker import FuncFormatter

    axes = framed_axes(canvas, SCATTER_PX, "p50 of one step, ms", "largest action error, m/s")
    speeds, errors = [point[0] for point in points], [point[1] for point in points]
    # room at both sides for names
    scale_x(axes, min(speeds) * 0.72, max(speeds) * 1.3, canvas)
    smallest = min((error for error in errors if error > LEAST_PART), default=1.0)
    smallest = max(smallest, max(errors) * LEAST_PART)
    axes.set_yscale("symlog", linthresh=smallest, linscale=0.6)
    axes.set_ylim(-0.35 * smallest, max(max(errors) * 8, smallest))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.minorticks_off()
    taken: list[Box] = []
    for speed, error, heading in points:
        marker = "X" if heading.role == "wrong" else "o"
        edge: Style = {"markersize": 9, "markeredgecolor": INK["card"], "markeredgewidth": 1}
        axes.plot([speed], [error], marker, color=INK[heading.role], clip_on=False, **edge)
        x, y = axes.transData.transform((speed, error))
        taken.append((x - 6, y - 6, x + 6, y + 6))
    for point in sorted(points, key=lambda point: point[0]):
        _name_point(axes, point, taken)
    return axes.get_figure()


def _name_point(axes: Axes, point: Point, taken: list[Box]) -> None:
    """Write a name at the first free place around its point, with a thin line where that is far."""
    speed, error, heading = point
    frame = axes.get_window_extent()
    ink = INK["wrong"] if heading.role == "wrong" else INK["fg"]
    style: Style = {"textcoords": "offset pixels", "color": ink, "fontsize": SMALL_PX, "va": "center"}
    name = axes.annotate(heading.title, (speed, error), (0, 0), **style)
    width = name.get_window_extent().width
    x, y = axes.transData.transform((speed, error))
    dx, dy = 11.0, 0.0
    for dx, dy in _places(width):
        wanted = (x + dx, y + dy - 7, x + dx + width, y + dy + 7)
        inside = wanted[0] >= frame.x0 - 50 and wanted[2] <= frame.x1 + 8 and wanted[3] <= frame.y1 + 6
        if inside and wanted[1] >= frame.y0 and not any(_meet(wanted, other) for other in taken):
            break
    name.set_position((dx, dy))
    if dy:
        end = (x + min(max(0.0, dx), dx + width), y + dy - np.sign(dy) * 8)
        (x0, y0), (x1, y1) = axes.transData.inverted().transform(((x, y), end))
        axes.plot((x0, x1), (y0, y1), color=INK["muted"], linewidth=0.8, zorder=1)
    taken.append((x + dx, y + dy - 7, x + dx + width, y + dy + 7))


def _places(width: float) -> Iterator[tuple[float, float]]:
    """Offsets of a name's left middle from its point: right, left, above and below, then farther away."""
    yield 11.0, 0.0
    yield -11 - width, 0.0
    for step in range(1, 10):
        for dy in (step * NAME_STEP_PX, -step * NAME_STEP_PX):
            for dx in (11.0, -width / 2, -11 - width, -width * 0.8, -width * 0.2):
                yield dx, dy


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
