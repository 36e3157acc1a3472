"""Which instruction a policy follows: a new one begins an episode."""

from __future__ import annotations

from typing import Any


class Followed:
    """Of one controller.

    Args:
        policy: of the controller; `check_instruction`, where it has that, refuses what it cannot follow.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self._asked: str | None = None
        self._since_reset: str | None = None

    def ask(self, text: str | None, *, checked: bool = True) -> None:
        """Of any thread: follow this one from the next frame on.

        Raises:
            InstructionError: the policy cannot; it goes on with the last one.
        """
        check = getattr(self._policy, "check_instruction", None)
        if checked and check is not None:
            check(text)
        self._asked = text

    def now(self) -> str | None:
        """Of the policy's thread: the instruction; what the policy remembers of another one is dropped first."""
        asked = self._asked
        if asked != self._since_reset:
            self._policy.reset()
            self._since_reset = asked
        return asked

    def reset(self) -> None:
        """Of the policy's thread: reset the policy, for the instruction that holds now."""
        asked = self._asked
        self._policy.reset()
        self._since_reset = asked
