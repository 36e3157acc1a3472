"""Who is told what an export does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from vla_edge.runtime.command.console import stderr_console

from .progress import note, stage


class Reporter(Protocol):
    """Receives what happens; the command shows bars, tests collect, `Silent` ignores."""

    def note(self, text: str) -> None: ...

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


class Silent:
    """A reporter that shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Any:
        yield lambda advance: None


class RichReporter:
    """Notes and progress on stderr."""

    def __init__(self) -> None:
        self._console = stderr_console()

    def note(self, text: str) -> None:
        note(self._console, text)

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        return stage(name, total, unit, self._console)
