"""The plots of a bundle: each takes the rows that have what it shows, and is left out when none has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vla_edge.bench.output.format import name, share, significant, times
from vla_edge.bench.report.types import BundleReport, FloorDistance, Row

from .axis import linear_axis
from .charts import drift_plot, error_plot
from .drawable import LANES_DRAWN, first_names
from .memory_plots import memory_plot, phases_plot
from .plot import Heading, Lane, Plot, Shape, heading_of, lane_plot, ridge, role_legend, series_of, stack

START_PARTS = ("interpreter", "import", "load", "first step")


def bundle_plots(bundle: BundleReport) -> tuple[Plot, ...]:
    """The plots of one bundle, the most telling first."""
    rows = bundle.rows[:LANES_DRAWN]
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
    lanes = []
    drawn = measured = 0
    for row in rows:
        if row.step and row.samples and row.samples.step_ms:
            told = f"p50 {significant(row.step.p50_ms)} ms, p99 {significant(row.step.p99_ms)} ms"
            lanes.append(ridge(heading_of(row, told), row.samples.step_ms, row.step))
            drawn, measured = drawn + len(row.samples.step_ms), measured + row.step.runs
    caption = (
        f"{'Every sample' if drawn >= measured else f'{drawn:,} of {measured:,} samples'} of one policy step. "
        "Line: p50; dotted: p99; dot: the slowest call. "
        "Height is the square root of how often a time came."
    )
    title = "How long one step takes"
    return lane_plot("latency", title, caption, lanes, "one step, ms", from_zero=False, spans=True)


def floor_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.floor) for row in rows if row.floor and row.step]
    lanes = [
        _floor_lane(heading_of(row, f"{times(floor.times_floor)} × floor"), floor) for row, floor in shown
    ]
    caption = (
        "From the least time this device could take, for reading the weights or for the arithmetic, "
        "to the p50 measured. The shorter the line, the less is left to gain."
    )
    colours = role_legend([lane.heading for lane in lanes])
    legend = (("s2", "floor by memory"), ("s4", "floor by arithmetic"), *colours)
    return lane_plot("floor", "Distance to the floor", caption, lanes, "ms", legend=legend, from_zero=False)


def _floor_lane(heading: Heading, floor: FloorDistance) -> Lane:
    first, last = sorted((floor.ms, floor.p50_ms))
    shapes = [
        Shape("distance", heading.role, first, last),
        Shape("tick", "s2", floor.memory_ms),
        Shape("tick", "s4", floor.compute_ms),
        Shape("dot", heading.role, floor.p50_ms),
    ]
    return Lane(heading, "floor", [shapes])


def stages_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.profile) for row in rows if row.profile and row.profile.stages]
    names, left_out = first_names((stage.stage for _, profile in shown for stage in profile.stages), "stages")
    roles = series_of(names)
    lanes = [
        stack(
            heading_of(row, f"{significant(profile.total_ms)} ms profiled"),
            [
                (roles[stage.stage], stage.share * 100, f"{name(stage.stage)} {share(stage.share)}")
                for stage in profile.stages
                if stage.stage in roles
            ],
        )
        for row, profile in shown
    ]
    caption = f"Measured apart from the latency, since profiling slows the step.{left_out}"
    legend = tuple((role, name(stage)) for stage, role in roles.items())
    axis = linear_axis("share of the profiled step, %", 100, room=1)
    return lane_plot("stages", "Where the time goes", caption, lanes, axis, legend=legend)


def start_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.cold_start) for row in rows if row.cold_start]
    roles = series_of(START_PARTS).values()
    lanes = []
    for row, start in shown:
        parts = (start.interpreter_s, start.import_s, start.load_s, start.first_call_s)
        stacked = [(role, part, significant(part)) for role, part in zip(roles, parts, strict=True)]
        lanes.append(stack(heading_of(row, f"{significant(start.total_s)} s"), stacked))
    caption = "The files are mostly in the page cache."
    if any(row.compile_s for row, _ in shown):
        caption += " The first step of a compiled row holds its compilation."
    legend = tuple(zip(roles, START_PARTS, strict=True))
    label = "from process start to the first step, s"
    return lane_plot("start", "Cold start", caption, lanes, label, legend=legend)


def paced_plot(rows: Sequence[Row]) -> Plot | None:
    lanes, rates, deadlines = [], set(), set()
    for row in rows:
        if row.paced and row.samples and row.samples.paced_ms:
            missed = f"{row.paced.misses:,} of {row.paced.ticks:,}"
            lanes.append(
                ridge(heading_of(row, f"{missed} deadlines missed"), row.samples.paced_ms, row.paced.latency)
            )
            rates.add(f"{row.paced.rate_hz:g}")
            deadlines.add(row.paced.deadline_ms)
    caption = f"A loop at {', '.join(sorted(rates))} Hz that sleeps in between, as a robot does."
    marks = dict.fromkeys(deadlines, "wrong") if len(deadlines) == 1 else {}
    caption += "".join(f" Dashed: the deadline of {significant(deadline)} ms." for deadline in marks)
    label = "from tick to answer, ms"
    return lane_plot("paced", "At a robot's pace", caption, lanes, label, from_zero=False, marks=marks)


def wake_plot(rows: Sequence[Row]) -> Plot | None:
    lanes = [
        ridge(
            heading_of(row, f"p99 {significant(row.paced.wake.p99_ms)} ms"),
            row.samples.wake_ms,
            row.paced.wake,
        )
        for row in rows
        if row.paced and row.samples and row.samples.wake_ms
    ]
    caption = "How late the operating system woke the loop: jitter that no engine can take away."
    return lane_plot(
        "wake", "Jitter of the loop", caption, lanes, "woken after the tick, ms", from_zero=False
    )
