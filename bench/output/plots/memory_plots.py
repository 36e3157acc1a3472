"""The plots of memory: the peaks, and the phases of a process."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.bench.output.format import formatted, printable
from vla_edge.bench.report.types import PhaseMemory, Row

from .axis import Axis
from .drawable import first_names
from .plot import Lane, Plot, Shape, bars, heading_of, lane_plot

HOST_ONLY = "Anonymous host memory."
BOTH = "Full: device memory; hatched: anonymous host memory."


def memory_plot(rows: Sequence[Row]) -> Plot | None:
    memories = [(row, row.memory) for row in rows if row.memory]
    peaks = [(row, memory.host_anonymous_peak_mib, memory.device_peak_mib) for row, memory in memories]
    lanes = []
    for row, host_mib, device_mib in peaks:
        if host_mib is not None or device_mib is not None:
            lengths = (device_mib, host_mib or 0.0) if device_mib else (host_mib or 0.0,)
            heading = heading_of(row, _in_words(host_mib or 0.0, device_mib or 0.0))
            lanes.append(bars(heading, *lengths, hollow=bool(device_mib)))
    caption = BOTH if any(device for _, _, device in peaks) else HOST_ONLY
    return lane_plot("memory", "Peak memory", caption, lanes, "peak memory of the process, MiB")


def _in_words(host_mib: float, device_mib: float) -> str:
    return f"{f'device {formatted(device_mib)}, ' if device_mib else ''}host {formatted(host_mib)}"


def phases_plot(rows: Sequence[Row]) -> Plot | None:
    shown = [(row, row.memory.phases) for row in rows if row.memory and row.memory.phases]
    every = [phase for _, phases in shown for phase in phases]
    names, left_out = first_names((phase.phase for phase in every), "phases")
    on_device = any(phase.device_mib for phase in every)
    highest = max((max(phase.host_anonymous_mib, phase.device_mib or 0.0) for phase in every), default=0.0)
    axis = Axis("", 0, len(names), (), names=tuple(printable(name)[:14] for name in names))
    lanes = [_phases_lane(row, phases, names, highest or 1.0, on_device=on_device) for row, phases in shown]
    caption = (
        f"{BOTH if on_device else HOST_ONLY} The largest reading in each phase of the process, MiB, all on one "
        f"scale.{left_out}"
    )
    return lane_plot("phases", "Memory by phase", caption, lanes, axis)


def _phases_lane(
    row: Row, phases: Sequence[PhaseMemory], names: Sequence[str], highest_mib: float, *, on_device: bool
) -> Lane:
    """A column for each phase, or two beside each other; all heights are parts of the highest."""
    host = {phase.phase: phase.host_anonymous_mib for phase in phases}
    device = {phase.phase: phase.device_mib or 0.0 for phase in phases}
    heading = heading_of(row, _in_words(max(host.values()), max(device.values())))
    columns = (
        [("column", device, 0.04), ("hollow column", host, 0.52)] if on_device else [("column", host, 0.04)]
    )
    width = 0.44 if on_device else 0.92

    shapes = [
        Shape(
            kind,
            heading.role,
            at + left,
            at + left + width,
            f"{name}: {formatted(held.get(name))} MiB",
            height=round(100 * held.get(name, 0.0) / highest_mib, 2),
        )
        for kind, held, left in columns
        for at, name in enumerate(names)
    ]
    return Lane(heading, "columns", [shapes])
