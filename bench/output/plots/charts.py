"""The plots on two axes: speed against error, and agreement frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.bench.output.format import backend_label, error_in_words, printable, significant, units_of
from vla_edge.bench.report.types import Row

from .axis import errors_axis, linear_axis, times_axis
from .drawable import NAMES_DRAWN
from .plot import Plot, Shape, heading_of, role_legend, series_of

# nearer than this, in percent along and across, a number would cover another
NUMBER_WIDTH, NUMBER_HEIGHT = 5, 6


def error_plot(rows: Sequence[Row]) -> Plot | None:
    compared = [(row, row.step, row.parity) for row in rows if row.step and row.parity]
    points = sorted(
        (step.p50_ms, parity.max_abs, at, parity, row)
        for at, (row, step, parity) in enumerate(compared)
        if parity.max_abs is not None
    )
    if len(points) < 2:
        return None
    x = times_axis("p50 of one step, ms", [p50_ms for p50_ms, *_ in points], left=1.4, right=1.3)
    y = errors_axis(f"largest action error, {units_of(rows)}", [error for _, error, *_ in points])
    headings = [
        heading_of(row, f"{significant(p50_ms)} ms, {error_in_words(parity)}")
        for p50_ms, _, _, parity, row in points
    ]
    shapes: list[Shape] = []
    taken = [(x.at(p50_ms), y.at(error)) for p50_ms, error, *_ in points]
    for number, ((p50_ms, error, *_), heading) in enumerate(zip(points, headings, strict=True), 1):
        kind = "cross" if heading.role == "wrong" else "point"
        shapes.append(Shape(kind, heading.role, p50_ms, text=heading.title, bottom=error))
        height = _free_height(x.at(p50_ms), y.at(error), taken)
        shapes.append(Shape("number", heading.role, p50_ms, text=str(number), bottom=error, height=height))
    caption = (
        "Left is faster, low is closer to PyTorch FP32 on the golden samples. A cross is a wrong result. "
        "The scale of errors is logarithmic."
    )
    hidden = [printable(backend_label(row)) for row in rows if row.parity and not row.parity.finite]
    if hidden:
        more = f" and {len(hidden) - NAMES_DRAWN} more" if len(hidden) > NAMES_DRAWN else ""
        names = ", ".join(hidden[:NAMES_DRAWN])
        caption += f" Not drawn, since its actions are NaN or infinite: {names}{more}."
    legend = role_legend(headings)
    title = "Speed against error"
    return Plot("error", title, caption, legend, x, y, shapes=shapes, names=headings)


def _free_height(left: float, bottom: float, taken: list[tuple[float, float]]) -> float:
    """How far above its point, within the plot, a number covers nothing; all in percent. Its place is taken then."""
    height = NUMBER_HEIGHT / 2
    while bottom + height < 100 and any(
        abs(left - x) < NUMBER_WIDTH and abs(bottom + height - y) < NUMBER_HEIGHT
        for x, y in taken
        if (x, y) != (left, bottom)
    ):
        height += 1
    taken.append((left, bottom + height))
    return height


def drift_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.agreement) for row in rows if row.agreement and len(row.agreement.errors) > 1]
    if not shown:
        return None
    roles = series_of([row.backend for row, _ in shown])
    last = max(len(agreement.errors) for _, agreement in shown) - 1
    x = linear_axis("frame", last, room=1)
    y = linear_axis(
        f"action error, {units_of(rows)}", max(max(agreement.errors) for _, agreement in shown), room=1.05
    )
    lines = [
        Shape(
            "dashed line" if row.status == "wrong" else "line", roles[row.backend], samples=agreement.errors
        )
        for row, agreement in shown
    ]
    caption = "Largest difference of a component at each of your frames, in order. Dashed: a wrong engine."
    legend = tuple((roles[row.backend], heading_of(row).title) for row, _ in shown)
    return Plot("drift", "Agreement on your frames", caption, legend, x, y, shapes=lines, spans=True)
