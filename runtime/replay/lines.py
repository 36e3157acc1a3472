"""What is written of a step: itself, and what the other policy commanded then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .against import Other
from .steps import Replayed, Step


class Line(NamedTuple):
    """A step, and what the other policy commanded then, where one was asked for."""

    step: Step
    other: tuple[float, ...] | None


def lines_of(replayed: Replayed, other: Other | None) -> Iterator[Line]:
    """An episode's steps, each beside the other policy's where that went through the episode too."""
    theirs = (other or {}).get(replayed.steps[0].episode)
    for step in replayed.steps:
        beside = None if theirs is None or step.step >= len(theirs) else tuple(theirs[step.step].tolist())
        yield Line(step, beside)
