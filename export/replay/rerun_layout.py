"""How the Rerun viewer lays a replay out: a tab an episode, what was driven beside what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.printable import one_line

if TYPE_CHECKING:
    from rerun.blueprint import Blueprint

_MOST_TABS = 100  # the others are in the viewer's list


def replay_layout(episodes: Sequence[str], spec: ActionSpec) -> Blueprint:
    """Of each episode the frame and the instruction, and a plot for each component, driven and predicted together.

    Args:
        episodes: entities, in their order.
        spec: of the policy's actions.
    """
    import rerun.blueprint as rrb

    tabs = [_tab(episode, spec) for episode in episodes[:_MOST_TABS]]
    return rrb.Blueprint(
        rrb.Tabs(*tabs),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        # every frame has a step; only some recordings tell times
        rrb.TimePanel(state="collapsed", timeline="step"),
        auto_views=False,
    )


def _tab(episode: str, spec: ActionSpec) -> Any:
    import rerun.blueprint as rrb

    camera = rrb.Spatial2DView(name="camera", origin=_path(episode, "camera"))
    instruction = rrb.TextDocumentView(name="instruction", origin=_path(episode, "instruction"))
    plots = [
        rrb.TimeSeriesView(
            name=f"{one_line(name)} [{one_line(unit)}]",
            origin=_path(episode, one_line(name)),
            plot_legend=rrb.PlotLegend(visible=True),
        )
        for name, unit in zip(spec.names, spec.units, strict=True)
    ]
    left = rrb.Vertical(camera, instruction, row_shares=[4, 1])
    return rrb.Horizontal(left, rrb.Vertical(*plots), name=episode)


def _path(*parts: str) -> str:
    import rerun

    return str(rerun.new_entity_path(list(parts)))
