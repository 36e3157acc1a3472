"""A policy that knows which frame its latest action is of, and lets the node have its say in each reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_edge.runtime.action import Action
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.control.controller import ActingPolicy


class StampedPolicy:
    """What the controller gets for the policy.

    Args:
        policy: the loaded one.

    Attributes:
        at_reset: called within each reset, after which a fault latched by it stays.
        stamp_ns: of the frame of the latest action.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        self._policy = policy
        self.at_reset: Callable[[], object] = lambda: None
        self.stamp_ns = 0
        self.identity = getattr(policy, "identity", None)
        self.check_instruction = getattr(policy, "check_instruction", None)

    @property
    def manifest(self) -> Manifest:
        return self._policy.manifest

    def act(self, frame: Any, instruction: str | None = None) -> Action:
        """As `Policy.act`."""
        action = self._policy.act(frame, instruction)
        self.stamp_ns = getattr(frame, "stamp_ns", 0)
        return action

    def reset(self) -> None:
        """As `Policy.reset`."""
        self.at_reset()
        self._policy.reset()
