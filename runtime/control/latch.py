"""A fault that stays until it is forgiven, set from anywhere: threads and signal handlers too.

There is no lock. A signal handler runs in the middle of whatever its thread was doing; if that held a lock, the
handler would wait for itself. Each change is one assignment of an object that never changes, which nothing can
come between.
"""

from __future__ import annotations

from .causes import Cause


class Fault:
    """One reason to stop. The first of a series gives the series its words."""

    __slots__ = ("cause", "first", "reason")

    def __init__(self, reason: str, first: Fault | None = None, cause: Cause = Cause.OTHER) -> None:
        self.reason = reason
        self.cause = cause
        self.first = first or self


class FaultLatch:
    """The latest fault, and how far faults were forgiven; compared by identity, so that none is mistaken.

    `set` and `fault` never block and may be called from any thread and any signal handler. `begin`, `forgive`
    and `abandon` belong to one thread at a time.

    Attributes:
        latest: assigned directly only in the moment of an interrupt, when no call may come between.
    """

    __slots__ = ("_forgiven", "_mark", "latest")

    def __init__(self) -> None:
        self.latest = self._forgiven = self._mark = Fault("")

    @property
    def fault(self) -> Fault | None:
        """The first fault that is not forgiven."""
        latest = self.latest
        return None if latest is self._forgiven else latest.first

    def set(self, reason: str, after: Fault | None = None, cause: Cause = Cause.OTHER) -> None:
        """Latch a fault. Every call leaves an object of its own, so none is taken for one forgiven already.

        Args:
            reason: in plain words.
            after: the latest fault so far, where that is not what `latest` holds.
            cause: its kind.
        """
        before = after or self.latest
        self.latest = Fault(reason, None if before is self._mark else before.first, cause)

    def begin(self) -> None:
        """From here on new faults outlive the `forgive` to come."""
        self._mark = self.latest

    def forgive(self) -> None:
        """Forgive what was latched before `begin`."""
        self._forgiven = self._mark

    def abandon(self) -> None:
        """No `forgive` will come: the fault of before keeps its words."""
        self._mark = self._forgiven
