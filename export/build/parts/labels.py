"""Of which part a builder's phases are."""

from __future__ import annotations

from vla_edge.export.build.progress import BuildProgress


class Labelled:
    """A `BuildProgress` whose outermost phases begin with the part's name and number; the whole has none.

    Args:
        progress: is told.
        name: of the part.
        at: its position, from 0.
        of: how many there are.
    """

    def __init__(self, progress: BuildProgress, name: str, at: int, of: int) -> None:
        self._progress = progress
        self._label = f"{name}, part {at + 1} of {of}: " if of > 1 else ""
        self._outermost: set[str] = set()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        if parent is None:
            self._outermost.add(phase)
        self._progress.start(self._named(phase), parent and self._named(parent), steps)

    def step(self, phase: str, done: int) -> None:
        self._progress.step(self._named(phase), done)

    def finish(self, phase: str) -> None:
        self._progress.finish(self._named(phase))
        self._outermost.discard(phase)

    def remark(self, text: str) -> None:
        self._progress.remark(text)

    def _named(self, phase: str) -> str:
        return self._label + phase if phase in self._outermost else phase
