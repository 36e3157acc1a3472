"""In which order parts are queued, and which of them waits for which: the least that is safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .chain import MAIN_STREAM, ChainPart

START = -1  # in place of a part: what the main stream held before, the upload of the inputs


@dataclass(frozen=True)
class Step:
    """A part in its turn.

    Attributes:
        stream: that it is queued on.
        waits: earlier parts on other streams, or `START`, whose events this stream waits for first.
        marked: whether an event is recorded behind it, which another stream waits for.
    """

    stream: int
    waits: tuple[int, ...]
    marked: bool


@dataclass(frozen=True)
class Order:
    """All steps of one run.

    Attributes:
        steps: one for each part, in the order of the parts.
        forks: whether an event is recorded on the main stream before all steps.
        joins: parts whose events the main stream waits for at the end: what it queues then runs after everything.
    """

    steps: tuple[Step, ...]
    forks: bool
    joins: tuple[int, ...]


def order_of(parts: Sequence[ChainPart]) -> Order:
    """Plan the events of a checked chain.

    A stream does its work in the order in which it was queued. So a part waits only for makers on other streams,
    for the latest on each, and not for one that its stream has waited for already.
    """
    makers = {spec.name: at for at, part in enumerate(parts) for spec in part.outputs}
    seen: dict[tuple[int, int], int] = {}  # (waiting stream, other stream) -> the latest part waited for
    waits = [_waits(parts, at, makers, seen) for at in range(len(parts))]
    joins = _joins(parts, seen)
    marked = {at for each in waits for at in each} | set(joins)
    steps = tuple(Step(part.stream, waits[at], at in marked) for at, part in enumerate(parts))
    return Order(steps, START in marked, joins)


def _waits(
    parts: Sequence[ChainPart], at: int, makers: dict[str, int], seen: dict[tuple[int, int], int]
) -> tuple[int, ...]:
    stream = parts[at].stream
    # an input of the whole is there from the start; a part that needs nothing is not begun before it either
    needs = [makers.get(spec.name, START) for spec in parts[at].inputs] or [START]
    latest: dict[int, int] = {}
    for maker in needs:
        other = MAIN_STREAM if maker == START else parts[maker].stream
        if other != stream:
            latest[other] = max(latest.get(other, START), maker)
    waits = []
    for other, maker in sorted(latest.items()):
        if maker > seen.get((stream, other), START - 1):
            seen[stream, other] = maker
            waits.append(maker)
    return tuple(waits)


def _joins(parts: Sequence[ChainPart], seen: dict[tuple[int, int], int]) -> tuple[int, ...]:
    last = {part.stream: at for at, part in enumerate(parts) if part.stream != MAIN_STREAM}
    return tuple(at for stream, at in sorted(last.items()) if at > seen.get((MAIN_STREAM, stream), START - 1))
