"""How the viewer lays a drive out: what the camera sees, what the robot does, how late, and why it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .messages import Beginning

if TYPE_CHECKING:
    from rerun.blueprint import Blueprint

CAMERA, STATE, LOG, LATENCY, DEADLINE = "camera", "state", "log", "latency", "deadline"
COMMAND, POLICY, LOOP = "command", "policy", "loop"
_SEEN_S = 20.0  # of a plot, while it is followed live


def component(name: str, unit: str) -> str:
    """An entity's name."""
    return f"{name} [{unit}]"


def drive_layout(beginning: Beginning) -> Blueprint:
    """The camera and the state on the left; on the right a plot for each unit, the latency, and the log."""
    import rerun.blueprint as rrb

    live = beginning.place.kind != "file"
    plots = [_velocities(beginning, unit, live) for unit in dict.fromkeys(beginning.units)]
    plots.append(
        rrb.TimeSeriesView(
            name="latency: capture to command [ms]",
            contents=[f"/{LATENCY}/**"],
            axis_y=rrb.ScalarAxis(range=(0.0, 1.2 * beginning.deadline_ms)),
            time_ranges=_window(live),
        )
    )
    log = rrb.TextLogView(
        name="starts, stops and faults",
        origin=f"/{LOG}",
        columns=rrb.TextLogColumns(text_log_columns=["loglevel", "body"]),
    )
    camera = rrb.Spatial2DView(name="camera", origin=f"/{CAMERA}")
    state = rrb.TextDocumentView(name="state", origin=f"/{STATE}")
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Vertical(camera, state, row_shares=[3, 2]),
            rrb.Vertical(*plots, log, row_shares=[3] * len(plots) + [2]),
        ),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        rrb.TimePanel(state="collapsed", timeline="time", play_state="following" if live else "playing"),
        auto_views=False,
    )


def _velocities(beginning: Beginning, unit: str, live: bool) -> Any:
    """What was sent, of the components in this unit; the plot is as high as their limits."""
    import rerun.blueprint as rrb

    of_unit = [
        (name, limit)
        for name, limit, each in zip(beginning.names, beginning.limits, beginning.units, strict=True)
        if each == unit
    ]
    largest = max(limit for _, limit in of_unit)
    axis = rrb.ScalarAxis(range=(-1.05 * largest, 1.05 * largest)) if _is_drawn(largest) else None
    limits = f", limit {largest:g}" if axis else ""
    return rrb.TimeSeriesView(
        name=f"command [{unit}]{limits}",
        origin=f"/{COMMAND}",
        contents=[_path(COMMAND, component(name, unit)) for name, _ in of_unit],
        axis_y=axis,
        time_ranges=_window(live),
    )


def _is_drawn(limit: float) -> bool:
    return math.isfinite(limit) and limit > 0


def _path(*parts: str) -> str:
    import rerun

    return str(rerun.new_entity_path(list(parts)))


def _window(live: bool) -> Sequence[object] | None:
    """The latest seconds while it is followed; all of a file."""
    import rerun
    import rerun.blueprint as rrb

    if not live:
        return None
    cursor = rerun.TimeRangeBoundary.cursor_relative
    return [rrb.VisibleTimeRange("time", start=cursor(seconds=-_SEEN_S), end=cursor())]
