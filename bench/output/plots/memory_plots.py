"""The plots of memory: the peaks, and the phases of a process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_edge.bench.output.format import mebibytes, printable
from vla_edge.bench.report.types import Row

from .drawable import first_names
from .lane_plot import bar_style, bars, heading_of, lane_plot, role_legend
from .lanes import Lanes, Style
from .svg import INK, Canvas, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS_PX = 34
HOST_ONLY = "Anonymous host memory."
BOTH = "Full: device memory; hatched: anonymous host memory."


def memory_plot(rows: Sequence[Row]) -> Plot | None:
    memories = [(row, row.memory) for row in rows if row.memory]
    peaks = [(row, memory.host_anonymous_peak_mib, memory.device_peak_mib) for row, memory in memories]
    shown = [
        (row, host or 0.0, device or 0.0)
        for row, host, device in peaks
        if host is not None or device is not None
    ]
    lanes = []
    for row, host_mib, device_mib in shown:
        heading = heading_of(row, _in_words(host_mib, device_mib))
        lengths = (device_mib, host_mib) if device_mib else (host_mib,)
        lanes.append(bars(heading, *lengths, hollow=bool(device_mib)))
    caption = BOTH if any(device for _, _, device in shown) else HOST_ONLY
    return lane_plot("memory", "Peak memory", caption, lanes, "peak memory of the process, MiB")


def _in_words(host_mib: float, device_mib: float) -> str:
    return f"{f'device {mebibytes(device_mib)}, ' if device_mib else ''}host {mebibytes(host_mib)}"


def phases_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.memory.phases) for row in rows if row.memory and row.memory.phases]
    names, left_out = first_names((phase.phase for _, phases in shown for phase in phases), "phases")
    host = [{phase.phase: phase.host_anonymous_mib for phase in phases} for _, phases in shown]
    device = [{phase.phase: phase.device_mib or 0.0 for phase in phases} for _, phases in shown]
    on_device = any(any(reading.values()) for reading in device)
    peaks = [(max(one.values()), max(other.values())) for one, other in zip(host, device, strict=True)]
    headings = [heading_of(row, _in_words(*peak)) for (row, _), peak in zip(shown, peaks, strict=True)]

    def draw(canvas: Canvas) -> Figure:
        frame = Lanes(canvas, headings, STEPS_PX, "")
        frame.axes.set_xlim(0, len(names))
        frame.axes.grid(visible=False)
        highest = max(map(max, peaks)) or 1.0
        for at, heading in enumerate(headings):
            base = frame.top(at) + STEPS_PX
            full, hatched = (
                [reading[at].get(name, 0.0) / highest for name in names] for reading in (device, host)
            )
            if on_device:
                _draw_steps(frame.axes, base, full, (0.04, 0.44), bar_style(heading.role))
            span = (0.52, 0.44) if on_device else (0.04, 0.92)
            _draw_steps(frame.axes, base, hatched, span, bar_style(heading.role, hollow=on_device))
            frame.axes.hlines(base, 0, len(names), color=INK["grid"], linewidth=1)
        slant: Style = {"rotation": 38, "ha": "right", "rotation_mode": "anchor"} if canvas.narrow else {}
        middles = [at + 0.5 for at in range(len(names))]
        frame.axes.set_xticks(middles, [_two_lines(printable(name)[:14], canvas) for name in names], **slant)
        return frame.figure

    if not shown:
        return None
    caption = (
        f"{BOTH if on_device else HOST_ONLY} The largest reading in each phase of the process, MiB, all on one "
        f"scale.{left_out}"
    )
    return Plot("phases", "Memory by phase", caption, role_legend(headings), draw)


def _two_lines(name: str, canvas: Canvas) -> str:
    """Long names would run into their neighbours, unless they stand aslant."""
    return name if canvas.narrow else name.replace(" ", "\n").replace("-", "-\n")


def _draw_steps(
    axes: Axes, base: float, heights: Sequence[float], span: tuple[float, float], look: Style
) -> None:
    """A column for each phase: heights as parts of the lane's; `span` is its left edge and width in the phase."""
    places = [at + span[0] for at in range(len(heights))]
    axes.bar(
        places,
        [-height * STEPS_PX for height in heights],
        span[1],
        bottom=base,
        align="edge",
        linewidth=1,
        **look,
    )
