"""The plots of a report: each takes the rows that have what it shows, and is left out when none has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_edge.bench.output.format import clipped, printable, share, significant, times
from vla_edge.bench.report.types import BundleReport, Latency, Row

from .drawable import drawable_rows, first_names
from .error_plot import error_plot
from .lanes import Heading, Lanes, Style, draw_ridge, draw_stack, scale_from_zero, scale_x, style_axes
from .memory_plots import memory_plot, phases_plot
from .plot_rows import BAR_PX, STACK_PX, heading_of, legend_of, role_of, series_of
from .svg import INK, Canvas, Plot, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIDGE_PX = 30
DRIFT_PX = 260
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


def latency_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.samples and row.samples.step_ms and row.step]

    def draw(canvas: Canvas) -> Figure:
        lanes = [
            Ridge(heading_of(row, _percentiles(row.step, canvas)), row.samples.step_ms, row.step)
            for row in shown
            if row.samples and row.step
        ]
        return _ridges(canvas, lanes, "one step, ms")

    caption = (
        f"{_how_many((row.samples.step_ms, row.step) for row in shown if row.samples and row.step)} of one policy "
        "step. Line: p50; dotted: p99; dot: the slowest call. "
        "Height is the square root of how often a time came."
    )
    if not shown:
        return None
    return Plot("latency", "How long one step takes", caption, legend_of(shown), draw, spans=True)


def _percentiles(latency: Latency, canvas: Canvas) -> str:
    if canvas.narrow:
        return f"{significant(latency.p50_ms)} ms"
    return f"p50 {significant(latency.p50_ms)} ms, p99 {significant(latency.p99_ms)} ms"


@dataclass(frozen=True)
class Ridge:
    """A distribution to draw: its samples, or in a summary some of them, and what all of them gave."""

    heading: Heading
    samples: Sequence[float]
    latency: Latency


def _how_many(series: Iterable[tuple[Sequence[float], Latency]]) -> str:
    """What of all samples can be drawn: "Every sample", or how many of a summary."""
    counts = [(len(samples), latency.runs) for samples, latency in series]
    kept, measured = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return "Every sample" if kept >= measured else f"{kept:,} of {measured:,} samples"


def _ridges(
    canvas: Canvas,
    lanes: Sequence[Ridge],
    label: str,
    mark: float | None = None,
) -> Figure:
    """Distributions below each other on one axis; `mark` is a limit to draw through all."""
    frame = Lanes(canvas, [lane.heading for lane in lanes], RIDGE_PX, label)
    low = min(min(lane.samples) for lane in lanes)
    high = max(max(*lane.samples, lane.latency.max_ms) for lane in lanes)
    scale_x(frame.axes, min(low, mark or low), max(high, mark or high), canvas)
    for at, lane in enumerate(lanes):
        draw_ridge(frame.axes, frame.top(at), RIDGE_PX, lane.samples, lane.latency, lane.heading.role)
    if mark is not None:
        frame.axes.axvline(mark, color=INK["wrong"], linewidth=1.6, linestyle=(0, (5, 3)))
    return frame.figure


def floor_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.floor and row.step]

    def draw(canvas: Canvas) -> Figure:
        headings = [heading_of(row, f"{times(row.floor.times_floor)} × floor") for row in shown if row.floor]
        frame = Lanes(canvas, headings, BAR_PX, "ms")
        measured = [(row.floor, row.floor.p50_ms, INK[role_of(row)]) for row in shown if row.floor]
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


def stages_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if row.profile and row.profile.stages]
    names, left_out = first_names(
        (stage.stage for row in shown if row.profile for stage in row.profile.stages), "stages"
    )
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
    return Plot("stages", "Where the time goes", f"{caption}{left_out}", legend, draw)


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
            Ridge(heading_of(row, _misses(row, canvas)), row.samples.paced_ms, row.paced.latency)
            for row in shown
            if row.samples and row.paced
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
            Ridge(
                heading_of(row, f"p99 {significant(row.paced.wake.p99_ms)} ms"),
                row.samples.wake_ms,
                row.paced.wake,
            )
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
