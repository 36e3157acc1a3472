"""The plots of memory: the peaks, and the phases of a process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_edge.bench.output.format import fixed, printable
from vla_edge.bench.report.types import Row

from .drawable import first_names
from .lanes import Lanes, Style, draw_bar, scale_from_zero
from .plot_rows import BAR_PX, heading_of, legend_of
from .svg import INK, Canvas, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS_PX = 34


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
    names, left_out = first_names((phase.phase for every in phases for phase in every), "phases")
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
    return Plot("phases", "Memory by phase", f"{full} {caption}{left_out}", legend_of(shown), draw)


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
