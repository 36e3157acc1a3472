"""Progress of a deploy on stderr."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from vla_edge.export.build.progress import BuildProgress, ShownProgress
from vla_edge.export.screen.progress import BYTES, note, stage
from vla_edge.runtime.command.console import stderr_console


class ShownScreen:
    """Bars on a terminal, lines elsewhere.

    Args:
        name: of what is unpacked.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def unpacking(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        return stage(f"unpacking {self._name}", size_bytes, BYTES)

    def reading(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        return stage(f"checking {self._name}", size_bytes, BYTES)

    def remark(self, text: str) -> None:
        note(stderr_console(), text)

    def proving(self) -> AbstractContextManager[BuildProgress]:
        return ShownProgress(stderr_console())
