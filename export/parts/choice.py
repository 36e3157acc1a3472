"""Where a graph is cut, for a number of parts or for the memory that there is.

A graph has natural pieces: branches that can run beside the rest, what lies before them, and behind the last cut
the part that is trained. Once a graph is cut at all, each should be parts of its own: it costs nothing, and a new
head then changes one small part. Each piece is split by itself, so that a pure policy and a hybrid one whose
backbone is in as many parts have the same parts there.

What resizes a camera's frames is a part of its own in any case, and not counted: as many parts as are asked for are
then the same ones with every camera, and without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, combinations, pairwise
from typing import Literal

from vla_edge.runtime.bundle.manifest import CAMERA_STAGE, Manifest
from vla_edge.runtime.engines.tensorrt.record import MAX_PARTS
from vla_edge.runtime.errors import InputError

from .graph import Graph, Segment
from .lanes import lanes, needs
from .split import in_order

Predict = Callable[[int], int]

_MOST_PIECES = 8  # kept apart: each choice of borders between them is tried; a hybrid policy has three


@dataclass(frozen=True)
class Choice:
    """A split.

    Attributes:
        boundaries: the cuts, in the order of the graph; `graph.base` alone for what is cut no further.
        weights_bytes: of each part.
        fits: whether the memory predicted for each part is within the limit.
    """

    boundaries: tuple[str, ...]
    weights_bytes: tuple[int, ...]
    fits: bool


def choose(
    graph: Graph,
    parts: Literal["auto"] | int,
    limit_bytes: int | None,
    predict: Predict,
) -> Choice:
    """Choose the cuts.

    Args:
        graph: to cut.
        parts: a number, or "auto" for the fewest parts that each fit: one, or else at least the natural pieces.
            A camera's part is one more. Of a number, splits that fit come first, then those with more natural pieces
            by themselves, then the one whose largest part is smallest.
        limit_bytes: of memory that building one part may take; None where that is not known, and all fits.
        predict: bytes of memory for bytes of weights; more for more.

    Returns:
        Where nothing fits, the split with the smallest largest part, and `fits` is False.

    Raises:
        InputError: more parts than the graph can be cut into, or less than one.
    """
    pieces = _Pieces(graph)

    def judged(boundaries: tuple[str, ...]) -> Choice:
        weights = tuple(segment.weights_bytes for segment in graph.between(boundaries))
        return Choice(boundaries, weights, all(map(fits, weights)))

    def fits(weights: int) -> bool:
        return limit_bytes is None or predict(weights) <= limit_bytes

    if parts == "auto":
        whole = judged(graph.base)
        if whole.fits or most_parts(graph) == 1:
            return whole
        stops = pieces.fewest(fits)
        if len(stops) <= most_parts(graph):
            return judged(pieces.names(stops))
        parts = most_parts(graph)
    _check_number(graph, parts)
    splits = [judged(pieces.names(stops)) for stops in pieces.splits(parts)]

    def order(choice: Choice) -> tuple[bool, int, int]:
        largest, together = max(choice.weights_bytes), -pieces.isolated(choice)
        return (False, together, largest) if choice.fits else (True, largest, together)

    return min(reversed(splits), key=order)  # of equal ones that which keeps more pieces apart


def adopted(graph: Graph, cuts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """A split of another graph as this one may have it.

    First the cuts that are in both and those between natural pieces: so a hybrid policy takes over a pure one's
    backbone and has CLIP apart, and the reverse. Then the cuts in both alone. With them always `graph.base`.

    Returns:
        Names in the order of the graph; nothing where no other cut is in both.
    """
    both = graph.places.keys() & set(cuts) - set(graph.base)
    if not both:
        return ()
    apart = both | set(_Pieces(graph).borders)
    found = dict.fromkeys(in_order(graph, names.union(graph.base)) for names in (apart, both))
    return tuple(names for names in found if len(names) < MAX_PARTS)


def most_parts(graph: Graph) -> int:
    """Into how many parts a graph can be cut, a camera's not counted: a side file takes no more than `MAX_PARTS`."""
    return min(len(graph.segments), MAX_PARTS) - len(graph.base)


def counted(names: Iterable[str], manifest: Manifest) -> int:
    """How many of a plan's parts `choose` counts, by their names."""
    return sum(manifest.camera is None or name != CAMERA_STAGE for name in names)


def _check_number(graph: Graph, parts: int) -> None:
    most = most_parts(graph)
    if 1 <= parts <= most:
        return
    if most == 1:
        raise InputError(
            f"{graph.source} has no {'other cuts' if graph.base else 'cuts'}, so it cannot be built in {parts} parts.",
            "Build it whole (--parts 1), or export the checkpoint again: what is written now has cuts.",
        )
    raise InputError(
        f"{graph.source} cannot be cut into {parts} parts.", f"Choose a number from 1 to {most}."
    )


class _Pieces:
    """The natural pieces of a graph but for its base; positions are those of the segments behind it."""

    def __init__(self, graph: Graph) -> None:
        self._base, self._cuts = graph.base, graph.cuts[len(graph.base) :]
        self._segments = graph.segments[len(graph.base) :]
        self._bounds = _piece_bounds(self._segments)

    @property
    def borders(self) -> tuple[str, ...]:
        """Names of the cuts between pieces."""
        return tuple(self._cuts[at - 1] for at in self._bounds[1:-1])

    def names(self, stops: Sequence[int]) -> tuple[str, ...]:
        """Names of the base's cuts and of those behind these segments but the last."""
        return (*self._base, *(self._cuts[stop - 1] for stop in stops[:-1]))

    def fewest(self, fits: Callable[[int], bool]) -> tuple[int, ...]:
        """Each piece by itself, in the fewest parts that fit, or else that have the smallest largest."""
        stops: list[int] = []
        for start, stop in pairwise(self._bounds):
            run = _Run(self._segments, start, stop)
            limit = run.smallest if not fits(run.smallest) else None
            count = next(
                count
                for count, largest in enumerate(run.largest, 1)
                if (fits(largest) if limit is None else largest <= limit)
            )
            stops += run.split(count)
        return tuple(stops)

    def splits(self, count: int) -> Iterator[tuple[int, ...]]:
        """The best split for each choice of pieces' borders that are cuts."""
        inner = self._bounds[1:-1]
        runs: dict[tuple[int, int], _Run] = {}
        for used in range(min(len(inner), count - 1) + 1):
            for borders in combinations(inner, used):
                spans = list(pairwise([0, *borders, self._bounds[-1]]))
                if sum(stop - start for start, stop in spans) < count:
                    continue
                for span in spans:
                    if span not in runs:
                        runs[span] = _Run(self._segments, *span)
                yield _allotted([runs[span] for span in spans], count)

    def isolated(self, choice: Choice) -> int:
        """How many pieces are parts of their own: both their borders are cuts."""
        inner = choice.boundaries[len(self._base) :]
        stops = {0, len(self._segments), *(self._cuts.index(name) + 1 for name in inner)}
        return sum(start in stops and stop in stops for start, stop in pairwise(self._bounds))


def _piece_bounds(segments: Sequence[Segment]) -> list[int]:
    """Where pieces begin, and the end of the last: where the lane changes, or another lane comes in."""
    lane, direct = lanes(segments), needs(segments)
    bounds = [
        at
        for at in range(1, len(segments))
        if lane[at] != lane[at - 1] or any(lane[other] != lane[at] for other in direct[at])
    ]
    if not bounds and len(segments) > 1:  # one way through: what is trained lies behind the last cut
        bounds = [len(segments) - 1]
    return [0, *bounds[1 - _MOST_PIECES :], len(segments)]


class _Run:
    """Segments that follow each other, split into 1, 2, .. parts whose largest is as small as can be."""

    def __init__(self, segments: Sequence[Segment], start: int, stop: int) -> None:
        self._start, self.count = start, stop - start
        self._weights = _range_weights(segments[start:stop])

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """For each number of parts the bytes of the largest."""
        weights, count = self._weights, self.count
        best = [weights[0][stop] for stop in range(1, count + 1)]  # of the first segments in so many parts
        found = [best[-1]]
        for parts in range(1, count):
            best = [
                min(
                    (max(best[at - 1], weights[at][stop]) for at in range(parts, stop)),
                    default=best[stop - 1],
                )
                for stop in range(1, count + 1)
            ]
            found.append(best[-1])
        return tuple(found)

    @property
    def smallest(self) -> int:
        return min(self.largest)

    def split(self, parts: int) -> list[int]:
        """Where each part ends: of the splits with the smallest largest part the most even one."""
        weights, limit, count = self._weights, self.largest[parts - 1], self.count
        none = (float("inf"), ())
        best: list[tuple[float, tuple[int, ...]]] = [(0, ()), *([none] * count)]
        for _ in range(parts):
            best = [none] + [
                min(
                    (
                        (best[at][0] + weights[at][stop] ** 2, (*best[at][1], stop))
                        for at in range(stop)
                        if weights[at][stop] <= limit
                    ),
                    default=none,
                )
                for stop in range(1, count + 1)
            ]
        return [self._start + stop for stop in best[count][1]]


def _allotted(runs: Sequence[_Run], count: int) -> tuple[int, ...]:
    """Split runs into so many parts in all: one more each time for that with the largest part."""
    parts = [1] * len(runs)
    for _ in range(count - len(runs)):
        can = [at for at, run in enumerate(runs) if parts[at] < run.count]
        parts[max(can, key=lambda at: runs[at].largest[parts[at] - 1])] += 1
    return tuple(stop for run, share in zip(runs, parts, strict=True) for stop in run.split(share))


def _range_weights(segments: Sequence[Segment]) -> list[dict[int, int]]:
    """Bytes of weights of the segments from one up to another, each weight once."""
    rows = []
    for start in range(len(segments)):
        seen: dict[str, int] = {}
        sizes = []
        for segment in segments[start:]:
            new = {t.name: t.size_bytes for t in segment.initialisers if t.name not in seen}
            seen |= new
            sizes.append(sum(new.values()))
        rows.append(dict(enumerate(accumulate(sizes), start + 1)))
    return rows
