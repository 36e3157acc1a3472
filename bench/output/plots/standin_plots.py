"""The plots of the stand-in: measured, explained, and as it was published."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.bench.output.format import formatted, name, significant
from vla_edge.bench.report.types import Claim, StandinReport, StandinRow

from .drawable import LANES_DRAWN, first_names
from .plot import Heading, Lane, Plot, bars, heading_of, lane_plot, role_legend, series_of, stack


def standin_plots(standin: StandinReport) -> tuple[Plot, ...]:
    """The stand-in's memory beside its explanation, and its latency beside the published one."""
    rows, claims = standin.rows[:LANES_DRAWN], standin.claims[:LANES_DRAWN]
    return tuple(filter(None, (_memory_plot(rows, claims), _latency_plot(rows, claims))))


def _heading(item: StandinRow, figure: str) -> Heading:
    return heading_of(item.row, figure, what=f", {item.protocol_word} protocol")


def _memory_plot(rows: Sequence[StandinRow], claims: Sequence[Claim]) -> Plot | None:
    shown = [item for item in rows if item.parts and item.explained_mib is not None]
    names, left_out = first_names((part.what for item in shown for part in item.parts), "parts")
    roles = series_of(names)
    published = {mb for claim in claims for mb in (claim.fp32_memory_mb, claim.fp16_memory_mb)}
    caption = (
        "Bars: what the shapes explain. Diamond: what PyTorch's allocator held at most. "
        f"Dashed: the peaks published, in their MB.{left_out}"
    )
    return lane_plot(
        "standin-memory",
        "The stand-in's memory, explained",
        caption,
        [_memory_lane(item, roles) for item in shown],
        "MiB",
        legend=tuple((role, name(part)) for part, role in roles.items()),
        marks=dict.fromkeys(sorted(published), "fg"),
    )


def _memory_lane(item: StandinRow, roles: dict[str, str]) -> Lane:
    parts = [(roles[part.what], part.mib, "") for part in item.parts if part.what in roles]
    heading = _heading(item, f"measured {formatted(item.allocated_mib)}")
    return stack(heading, parts, *([] if item.allocated_mib is None else [item.allocated_mib]))


def _latency_plot(rows: Sequence[StandinRow], claims: Sequence[Claim]) -> Plot | None:
    measured = [
        bars(_heading(item, f"{significant(item.row.step.p50_ms)} ms"), item.row.step.p50_ms)
        for item in rows
        if item.row.step
    ]
    if not measured:
        return None
    published = [
        bars(
            Heading(f"published: {name(claim.model)}, {precision}", f"{significant(value)} ms", "s4"),
            value,
            hollow=True,
        )
        for claim in claims
        for precision, value in (("FP32", claim.fp32_ms), ("FP16", claim.fp16_ms))
    ]
    caption = "Full: p50 measured here; hatched: published, on another device. It is none of the policies."
    legend = (*role_legend([lane.heading for lane in measured]), ("s4", "published"))
    lanes = [*measured, *published]
    title = "The stand-in's speed"
    return lane_plot("standin-latency", title, caption, lanes, "one step, ms", legend=legend)
