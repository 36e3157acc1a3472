"""Who is told what an export does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


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
