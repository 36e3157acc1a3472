"""What a robot is to do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action


@dataclass(frozen=True)
class Command:
    """What the robot is to do now.

    Attributes:
        names: of the components.
        values: each component in its unit (`Policy.manifest.action.units`); all zero when stopped.
        stopped: whether this is a stop of the controller (a policy may ask for zeros too: then it is False).
        reason: why it is one; empty otherwise.
        action: what the policy said; None where it failed or was late.
        latency_ms: from capture or call to the command; 0 where the policy was not asked or the clock failed.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    stopped: bool
    reason: str
    action: Action | None
    latency_ms: float


def stop_for(names: tuple[str, ...], reason: str) -> Command:
    """A stop of these components."""
    return Command(names, (0.0,) * len(names), True, reason, None, 0.0)
