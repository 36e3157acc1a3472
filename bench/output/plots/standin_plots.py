"""The plots of the stand-in: measured, explained, and as it was published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla_edge.bench.output.format import backend_label, clipped, fixed, printable, significant
from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import StandinReport, StandinRow

from .drawable import drawable_standin, first_names
from .lanes import Heading, Lanes, Style, draw_bar, draw_stack, scale_from_zero
from .plot_rows import BAR_PX, STACK_PX, legend_of, role_of, series_of
from .svg import INK, Canvas, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def standin_plots(standin: StandinReport) -> tuple[Plot, ...]:
    """The stand-in's memory beside its explanation, and its latency beside the published one."""
    standin = drawable_standin(standin)
    makers = (_standin_memory_plot, _standin_latency_plot)
    return tuple(plot for make in makers if (plot := make(standin)) is not None)


def _standin_heading(item: StandinRow, figure: str) -> Heading:
    name = f"{printable(backend_label(item.row))}, {item.protocol} protocol"
    return Heading(name, figure, role_of(item.row), bool(real_doubts(item.row)))


def _allocated_mib(item: StandinRow) -> float | None:
    """What PyTorch's allocator held: shapes explain nothing else of a process."""
    return item.row.memory.torch_allocator_peak_mib if item.row.memory else None


def _standin_memory_plot(standin: StandinReport) -> Plot | None:
    shown = [item for item in standin.rows if item.parts and item.explained_mib is not None]
    names, left_out = first_names((part.what for item in shown for part in item.parts), "parts")
    roles = series_of(names)
    claimed = sorted({mb for claim in standin.claims for mb in (claim.fp32_memory_mb, claim.fp16_memory_mb)})

    def draw(canvas: Canvas) -> Figure:
        measured = [_allocated_mib(item) for item in shown]
        headings = [
            _standin_heading(item, f"measured {fixed(mib, 0)}")
            for item, mib in zip(shown, measured, strict=True)
        ]
        frame = Lanes(canvas, headings, STACK_PX, "MiB")
        sums = [sum(max(part.mib, 0.0) for part in item.parts) for item in shown]
        scale_from_zero(frame.axes, max([*sums, *(mib or 0.0 for mib in measured), *claimed]), canvas)
        for value in claimed:
            frame.axes.axvline(value, color=INK["fg"], linewidth=1.2, linestyle=(0, (5, 3)))
        for at, (item, mib) in enumerate(zip(shown, measured, strict=True)):
            top = frame.top(at)
            parts = [(roles[part.what], max(part.mib, 0.0), "") for part in item.parts if part.what in roles]
            draw_stack(frame.axes, top, STACK_PX, parts)
            if mib is not None:
                edge: Style = {"markersize": 8, "markeredgecolor": INK["card"]}
                frame.axes.plot([mib], [top + STACK_PX / 2], "D", color=INK["fg"], **edge)
        return frame.figure

    if not shown:
        return None
    caption = (
        "Bars: what the shapes explain. Diamond: what PyTorch's allocator held at most. "
        f"Dashed: the peaks published, in their MB.{left_out}"
    )
    return Plot(
        "standin-memory",
        "The stand-in's memory, explained",
        caption,
        tuple((roles[name], printable(clipped(name))) for name in names),
        draw,
    )


def _standin_latency_plot(standin: StandinReport) -> Plot | None:
    shown = [item for item in standin.rows if item.row.step]
    published = [
        (
            Heading(
                f"published: {printable(clipped(claim.model))}, {name}", f"{significant(value)} ms", "s4"
            ),
            value,
        )
        for claim in standin.claims
        for name, value in (("FP32", claim.fp32_ms), ("FP16", claim.fp16_ms))
    ]

    def draw(canvas: Canvas) -> Figure:
        measured = [
            (_standin_heading(item, f"{significant(item.row.step.p50_ms)} ms"), item.row.step.p50_ms)
            for item in shown
            if item.row.step
        ]
        lanes = [*measured, *published]
        frame = Lanes(canvas, [heading for heading, _ in lanes], BAR_PX, "one step, ms")
        scale_from_zero(frame.axes, max(value for _, value in lanes), canvas)
        for at, (heading, value) in enumerate(lanes):
            draw_bar(frame.axes, frame.top(at), BAR_PX, value, heading.role, hollow=heading.role == "s4")
        return frame.figure

    if not shown:
        return None
    caption = "Full: p50 measured here; hatched: published, on another device. It is none of the policies."
    legend = (*legend_of(item.row for item in shown), ("s4", "published"))
    return Plot("standin-latency", "The stand-in's speed", caption, legend, draw)
