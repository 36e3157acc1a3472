"""A policy that follows the latest task: a new one begins an episode, from its first frame on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_edge.runtime.action import Action
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.control.controller import ActingPolicy


class TaskedPolicy:
    """What the controller gets for the policy.

    Args:
        policy: the loaded one.
        task: until another one comes; None for the bundle's default.

    Attributes:
        task: assigned from any thread. The policy refuses one that the bundle does not hold, which is a fault.
        at_reset: called within each reset, after which a fault latched by it stays.
        stamp_ns: of the frame of the latest action.
    """

    def __init__(self, policy: ActingPolicy, task: str | None) -> None:
        self._policy = policy
        self.task = self._followed = task
        self.at_reset: Callable[[], object] = lambda: None
        self.stamp_ns = 0
        self.identity = getattr(policy, "identity", None)

    @property
    def manifest(self) -> Manifest:
        return self._policy.manifest

    def act(self, frame: Any, instruction: str | None = None) -> Action:
        """As `Policy.act`, by the task; the argument `instruction` is not used."""
        task = self.task
        if task != self._followed:
            self._policy.reset()
            self._followed = task
        action = self._policy.act(frame, task)
        self.stamp_ns = getattr(frame, "stamp_ns", 0)
        return action

    def reset(self) -> None:
        """As `Policy.reset`."""
        self.at_reset()
        self._policy.reset()
        self._followed = self.task
