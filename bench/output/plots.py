"""The plots of a report: each takes the rows that have what it shows, and is left out when none has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..report import BundleReport, Latency, Row
from .drawable import NAMES_DRAWN, drawable_rows
from .format import (
    backend_label,
    clipped,
    fixed,
    floor_p50_ms,
    is_torch,
    printable,
    share,
    significant,
    times,
)
from .lanes import (
    LEAST_PART,
    Heading,
    Lanes,
    Style,
    draw_bar,
    draw_ridge,
    draw_stack,
    scale_from_zero,
    scale_x,
    style_axes,
)
from .remarks import real_doubts
from .svg import INK, SERIES, SMALL_PX, Canvas, Plot, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIDGE_PX = 30
BAR_PX = 13
STACK_PX = 22
STEPS_PX = 34
SCATTER_PX = 360
DRIFT_PX = 260
ROLE_LEGEND = (("engine", "engine"), ("torch", "PyTorch"), ("wrong", "wrong: its speed is worth nothing"))
NAME_STEP_PX = 15
# left, lower, right and upper edge in pixels
Box = tuple[float, float, float, float]
START_PARTS = ("interpreter", "import", "load", "first step")


def bundle_plots(bundle: BundleReport) -> tuple[Plot, ...]:
    """The plots of one bundle, the most telling first; of rows that can be drawn."""
    rows = drawable_rows(bundle.rows)
    makers: tuple[Callable[[Sequence[Row]], Plot | None], ...] = (
        latency_plot,
        error_plot,
        floor_plot,
        memory_plot,
        phases_plot,
        stages_plot,
        start_plot,
        paced_plot,
        wake_plot,
        drift_plot,
    )
    return tuple(plot for make in makers if (plot := make(rows)) is not None)


def role_of(row: Row) -> str:
    """Which colour a row has: wrong before anything else."""
    if row.status == "wrong":
        return "wrong"
    return "torch" if is_torch(row.backend) else "engine"


def heading_of(row: Row, figure: str) -> Heading:
    return Heading(printable(backend_label(row)), figure, role_of(row), bool(real_doubts(row)))


def legend_of(rows: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """The colours that these rows have, and what each says."""
    roles = {role_of(row) for row in rows}
    return tuple(entry for entry in ROLE_LEGEND if entry[0] in roles)


def latency_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.samples and row.samples.step_ms and row.step]

    def draw(canvas: Canvas) -> Figure:
        lanes = [
            (heading_of(row, _percentiles(row.step, canvas)), row.samples.step_ms)
            for row in shown
            if row.samples and row.step
        ]
        return _ridges(canvas, lanes, "one step, ms")

    caption = (
        "Every sample of one policy step. Line: p50; dotted: p99; dot: the slowest call. "
        "Height is the square root of how often a time came."
    )
    if not shown:
        return None
    return Plot("latency", "How long one step takes", caption, legend_of(shown), draw, spans=True)


def _percentiles(latency: Latency, canvas: Canvas) -> str:
    if canvas.narrow:
        return f"{significant(latency.p50_ms)} ms"
    return f"p50 {significant(latency.p50_ms)} ms, p99 {significant(latency.p99_ms)} ms"


def _ridges(
    canvas: Canvas,
    lanes: Sequence[tuple[Heading, Sequence[float]]],
    label: str,
    mark: float | None = None,
) -> Figure:
    """Distributions below each other on one axis; `mark` is a limit to draw through all."""
    frame = Lanes(canvas, [heading for heading, _ in lanes], RIDGE_PX, label)
    low, high = min(min(values) for _, values in lanes), max(max(values) for _, values in lanes)
    scale_x(frame.axes, min(low, mark or low), max(high, mark or high), canvas)
    for at, (heading, values) in enumerate(lanes):
        draw_ridge(frame.axes, frame.top(at), RIDGE_PX, values, heading.role)
    if mark is not None:
        frame.axes.axvline(mark, color=INK["wrong"], linewidth=1.6, linestyle=(0, (5, 3)))
    return frame.figure


def error_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.step and row.parity and row.parity.max_abs_mps is not None]
    hidden = [row for row in rows if row.parity and not row.parity.finite]
    if len(shown) < 2:
        return None

    def draw(canvas: Canvas) -> Figure:
        points = [
            (row.step.p50_ms, row.parity.max_abs_mps, heading_of(row, ""))
            for row in shown
            if row.step and row.parity and row.parity.max_abs_mps is not None
        ]
        return _scatter(canvas, points)

    caption = (
        "Left is faster, low is closer to PyTorch FP32 on the golden samples. A cross is a wrong result. "
        "The scale of errors is logarithmic."
    )
    if hidden:
        names = ", ".join(printable(backend_label(row)) for row in hidden[:NAMES_DRAWN])
        caption += f" Not drawn, since its actions are NaN or infinite: {names}."
    return Plot("error", "Speed against error", caption, legend_of(shown), draw)


def _scatter(canvas: Canvas, points: Sequence[tuple[float, float, Heading]]) -> Figure:
    """p50 across, error upwards on a scale that is linear up to the smallest error and logarithmic above."""
    from matplotlib.ticker import FuncFormatter

    figure = new_figure(canvas, SCATTER_PX)
    left = 62 / canvas.width
    axes = figure.add_axes((left, 52 / SCATTER_PX, 1 - left - 12 / canvas.width, 1 - 66 / SCATTER_PX))
    style_axes(axes, x_label="p50 of one step, ms", y_label="largest action error, m/s")
    axes.grid(axis="y", color=INK["grid"], linewidth=1)
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
        marker, size = ("X", 9) if heading.role == "wrong" else ("o", 9)
        axes.plot(
            [speed],
            [error],
            marker,
            color=INK[heading.role],
            markersize=size,
            markeredgecolor=INK["card"],
            markeredgewidth=1,
            clip_on=False,
        )
        x, y = axes.transData.transform((speed, error))
        taken.append((x - 6, y - 6, x + 6, y + 6))
    for point in sorted(points, key=lambda point: point[0]):
        _name_point(axes, point, taken)
    return figure


def _name_point(axes: Axes, point: tuple[float, float, Heading], taken: list[Box]) -> None:
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


def floor_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.floor and row.step]

    def draw(canvas: Canvas) -> Figure:
        headings = [heading_of(row, f"{times(row.floor.times_floor)} × floor") for row in shown if row.floor]
        frame = Lanes(canvas, headings, BAR_PX, "ms")
        measured = [(row.floor, floor_p50_ms(row.floor), INK[role_of(row)]) for row in shown if row.floor]
        values = [
            value for floor, p50_ms, _ in measured for value in (floor.memory_ms, floor.compute_ms, p50_ms)
        ]
        scale_x(frame.axes, min(values), max(values), canvas)
        for at, (floor, p50_ms, ink) in enumerate(measured):
            y = frame.top(at) + BAR_PX / 2
            tick: Style = {"markersize": 15, "markeredgewidth": 3}
            frame.axes.hlines(y, floor.ms, p50_ms, color=ink, linewidth=5, alpha=0.35)
            frame.axes.plot([floor.memory_ms], [y], "|", color=INK["s2"], **tick)
            frame.axes.plot([floor.compute_ms], [y], "|", color=INK["s4"], **tick)
            frame.axes.plot([p50_ms], [y], "o", color=ink, markersize=9)
        return frame.figure

    if not shown:
        return None
    caption = (
        "From the least time this device could take, for reading the weights or for the arithmetic, "
        "to the p50 measured. The shorter the line, the less is left to gain."
    )
    legend = (("s2", "floor by memory"), ("s4", "floor by arithmetic"), *legend_of(shown))
    return Plot("floor", "Distance to the floor", caption, legend, draw)


def memory_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [
        row
        for row in rows
        if row.memory
        and (row.memory.host_anonymous_peak_mib is not None or row.memory.device_peak_mib is not None)
    ]

    def draw(canvas: Canvas) -> Figure:
        peaks = [_peaks(row) for row in shown]
        body = 2 * BAR_PX + 2 if any(device for _, device in peaks) else BAR_PX
        headings = [
            heading_of(
                row, ", ".join([f"device {fixed(device, 0)}"] * bool(device) + [f"host {fixed(host, 0)}"])
            )
            for row, (host, device) in zip(shown, peaks, strict=True)
        ]
        frame = Lanes(canvas, headings, body, "peak memory of the process, MiB")
        scale_from_zero(frame.axes, max(max(pair) for pair in peaks), canvas)
        for at, (heading, (host_mib, device_mib)) in enumerate(zip(headings, peaks, strict=True)):
            top = frame.top(at)
            if device_mib:
                draw_bar(frame.axes, top, BAR_PX, device_mib, heading.role)
                top += BAR_PX + 2
            draw_bar(frame.axes, top, BAR_PX, host_mib, heading.role, hollow=bool(device_mib))
        return frame.figure

    if not shown:
        return None
    on_device = any(row.memory and row.memory.device_peak_mib for row in shown)
    caption = (
        "Full: device memory; hatched: anonymous host memory." if on_device else "Anonymous host memory."
    )
    return Plot("memory", "Peak memory", caption, legend_of(shown), draw)


def _peaks(row: Row) -> tuple[float, float]:
    if row.memory is None:
        return 0.0, 0.0
    return row.memory.host_anonymous_peak_mib or 0.0, row.memory.device_peak_mib or 0.0


def _peaks_in_words(host_mib: float, device_mib: float) -> list[str]:
    return [f"device {fixed(device_mib, 0)}"] * bool(device_mib) + [f"host {fixed(host_mib, 0)}"]


def phases_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.memory and row.memory.phases]
    phases = [row.memory.phases for row in shown if row.memory]
    names = tuple(dict.fromkeys(phase.phase for every in phases for phase in every))[:NAMES_DRAWN]
    host = [{phase.phase: phase.host_anonymous_mib for phase in every} for every in phases]
    device = [{phase.phase: phase.device_mib or 0.0 for phase in every} for every in phases]
    on_device = any(any(reading.values()) for reading in device)

    def draw(canvas: Canvas) -> Figure:
        headings = [
            heading_of(row, ", ".join(_peaks_in_words(max(one.values()), max(other.values()))))
            for row, one, other in zip(shown, host, device, strict=True)
        ]
        frame = Lanes(canvas, headings, STEPS_PX, "")
        frame.axes.set_xlim(0, len(names))
        frame.axes.grid(visible=False)
        highest = max(max(reading.values()) for reading in (*host, *device)) or 1.0
        for at, heading in enumerate(headings):
            base = frame.top(at) + STEPS_PX
            if on_device:
                held = [device[at].get(name, 0.0) / highest for name in names]
                _draw_steps(frame, base, held, (0.04, 0.44), heading.role)
            held = [host[at].get(name, 0.0) / highest for name in names]
            span = (0.52, 0.44) if on_device else (0.04, 0.92)
            _draw_steps(frame, base, held, span, heading.role, hollow=on_device)
            frame.axes.hlines(base, 0, len(names), color=INK["grid"], linewidth=1)
        slant: Style = {"rotation": 38, "ha": "right", "rotation_mode": "anchor"} if canvas.narrow else {}
        middles = [at + 0.5 for at in range(len(names))]
        frame.axes.set_xticks(middles, [_two_lines(printable(name)[:14], canvas) for name in names], **slant)
        return frame.figure

    if not shown:
        return None
    caption = "The largest reading in each phase of the process, MiB, all on one scale."
    full = "Full: device memory; hatched: anonymous host memory." if on_device else "Anonymous host memory."
    return Plot("phases", "Memory by phase", f"{full} {caption}", legend_of(shown), draw)


def _two_lines(name: str, canvas: Canvas) -> str:
    """Long names would run into their neighbours, unless they stand aslant."""
    return name if canvas.narrow else name.replace(" ", "\n").replace("-", "-\n")


def _draw_steps(
    frame: Lanes,
    base: float,
    heights: Sequence[float],
    span: tuple[float, float],
    role: str,
    *,
    hollow: bool = False,
) -> None:
    """A column for each phase: heights as parts of the lane's, `span` its left edge and width in the phase."""
    look: Style = (
        {"facecolor": "none", "edgecolor": INK[role], "hatch": "////"} if hollow else {"color": INK[role]}
    )
    places = [at + span[0] for at in range(len(heights))]
    tops = [-height * STEPS_PX for height in heights]
    frame.axes.bar(places, tops, span[1], bottom=base, align="edge", linewidth=1, **look)


def stages_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.profile and row.profile.stages]
    names = tuple(dict.fromkeys(stage.stage for row in shown if row.profile for stage in row.profile.stages))[
        :NAMES_DRAWN
    ]
    roles = series_of(names)

    def draw(canvas: Canvas) -> Figure:
        profiles = [row.profile for row in shown if row.profile]
        headings = [
            heading_of(row, f"{significant(profile.total_ms)} ms profiled")
            for row, profile in zip(shown, profiles, strict=True)
        ]
        frame = Lanes(canvas, headings, STACK_PX, "share of the profiled step, %")
        scale_from_zero(frame.axes, 100, canvas)
        frame.axes.set_xlim(0, 100)
        for at, profile in enumerate(profiles):
            parts = [
                (
                    roles[stage.stage],
                    stage.share * 100,
                    f"{printable(clipped(stage.stage))} {share(stage.share)}",
                )
                for stage in profile.stages
                if stage.stage in roles
            ]
            draw_stack(frame.axes, frame.top(at), STACK_PX, parts)
        return frame.figure

    if not shown:
        return None
    caption = "Measured apart from the latency, since profiling slows the step."
    legend = tuple((roles[name], printable(clipped(name))) for name in names)
    return Plot("stages", "Where the time goes", caption, legend, draw)


def series_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name; with more names than colours they begin anew."""
    return {name: SERIES[at % len(SERIES)] for at, name in enumerate(names)}


def start_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.cold_start]
    roles = series_of(START_PARTS)

    def draw(canvas: Canvas) -> Figure:
        starts = [row.cold_start for row in shown if row.cold_start]
        headings = [
            heading_of(row, f"{significant(start.total_s)} s")
            for row, start in zip(shown, starts, strict=True)
        ]
        frame = Lanes(canvas, headings, STACK_PX, "from process start to the first step, s")
        scale_from_zero(frame.axes, max(start.total_s for start in starts), canvas)
        for at, start in enumerate(starts):
            seconds = (start.interpreter_s, start.import_s, start.load_s, start.first_call_s)
            parts = [
                (roles[name], value, significant(value))
                for name, value in zip(START_PARTS, seconds, strict=True)
            ]
            draw_stack(frame.axes, frame.top(at), STACK_PX, parts)
        return frame.figure

    if not shown:
        return None
    caption = "The files are mostly in the page cache."
    if any(row.compile_s for row in shown):
        caption += " The first step of a compiled row holds its compilation."
    return Plot("start", "Cold start", caption, tuple((roles[name], name) for name in START_PARTS), draw)


def paced_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.paced and row.samples and row.samples.paced_ms]
    if not shown:
        return None
    deadlines = {row.paced.deadline_ms for row in shown if row.paced}
    rates = ", ".join(sorted({f"{row.paced.rate_hz:g}" for row in shown if row.paced}))

    def draw(canvas: Canvas) -> Figure:
        lanes = [
            (heading_of(row, _misses(row, canvas)), row.samples.paced_ms) for row in shown if row.samples
        ]
        mark = deadlines.copy().pop() if len(deadlines) == 1 else None
        return _ridges(canvas, lanes, "from tick to answer, ms", mark)

    caption = f"A loop at {rates} Hz that sleeps in between, as a robot does."
    legend = legend_of(shown)
    if len(deadlines) == 1:
        caption += f" Dashed: the deadline of {significant(deadlines.copy().pop())} ms."
    return Plot("paced", "At a robot's pace", caption, legend, draw)


def _misses(row: Row, canvas: Canvas) -> str:
    if row.paced is None:
        return ""
    missed = f"{row.paced.misses:,} of {row.paced.ticks:,}"
    return f"{missed} missed" if canvas.narrow else f"{missed} deadlines missed"


def wake_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.paced and row.samples and row.samples.wake_ms]

    def draw(canvas: Canvas) -> Figure:
        lanes = [
            (heading_of(row, f"p99 {significant(row.paced.wake.p99_ms)} ms"), row.samples.wake_ms)
            for row in shown
            if row.samples and row.paced
        ]
        return _ridges(canvas, lanes, "woken after the tick, ms")

    if not shown:
        return None
    caption = "How late the operating system woke the loop: jitter that no engine can take away."
    return Plot("wake", "Jitter of the loop", caption, legend_of(shown), draw)


def drift_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.agreement and len(row.agreement.error_mps) > 1]
    roles = series_of([row.backend for row in shown])

    def draw(canvas: Canvas) -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure = new_figure(canvas, DRIFT_PX)
        left = 62 / canvas.width
        axes = figure.add_axes((left, 52 / DRIFT_PX, 1 - left - 12 / canvas.width, 1 - 66 / DRIFT_PX))
        style_axes(axes, x_label="frame", y_label="action error, m/s")
        axes.grid(axis="y", color=INK["grid"], linewidth=1)
        for row in shown:
            if row.agreement is None:
                continue
            line = "--" if row.status == "wrong" else "-"
            axes.plot(row.agreement.error_mps, line, color=INK[roles[row.backend]], linewidth=2)
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure

    if not shown:
        return None
    caption = "Largest difference of a component at each of your frames, in order. Dashed: a wrong engine."
    legend = tuple((roles[row.backend], heading_of(row, "").title) for row in shown)
    return Plot("drift", "Agreement on your frames", caption, legend, draw, spans=True)
