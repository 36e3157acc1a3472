"""Which parts may run at the same time."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.runtime.bundle.manifest import TensorSpec

from .graph import Segment
from .split import PartGraph

MOST_LANES = 8  # a plan's side file has streams 0 to 7; what would need more runs in the last one, in line


def lanes(parts: Sequence[PartGraph | Segment]) -> tuple[int, ...]:
    """For each part the lane that it runs in: parts of one lane in their order, lanes beside each other.

    Lane 0 is the heaviest way through, by weights, which a step at least takes; the others hold branches that
    need not wait for all of it, such as CLIP's tower. A pure policy has lane 0 alone.

    Args:
        parts: in the order of the graph.
    """
    before = ancestors(parts)
    longest = _longest_way(parts)
    found: list[int] = []
    lasts: list[int] = []  # of each lane beyond 0
    for at in range(len(parts)):
        if at in longest:
            found.append(0)
            continue
        lane = next((lane for lane, last in enumerate(lasts) if last in before[at]), len(lasts))
        lane = min(lane, MOST_LANES - 2)
        lasts[lane : lane + 1] = [at]
        found.append(lane + 1)
    return tuple(found)


def needs(parts: Sequence[PartGraph | Segment]) -> tuple[frozenset[int], ...]:
    """For each part the positions of those whose outputs it takes."""
    maker = {_name(output): at for at, part in enumerate(parts) for output in part.outputs}
    return tuple(
        frozenset(maker[name] for name in map(_name, part.inputs) if name in maker) for part in parts
    )


def ancestors(parts: Sequence[PartGraph | Segment]) -> tuple[frozenset[int], ...]:
    """For each part the positions of all that must have run before it."""
    found: list[frozenset[int]] = []
    for direct in needs(parts):
        found.append(direct.union(*(found[at] for at in direct)))
    return tuple(found)


def _longest_way(parts: Sequence[PartGraph | Segment]) -> set[int]:
    """The way with the most bytes of weights that ends at the last part."""
    lengths: list[int] = []
    previous: list[int | None] = []
    for part, direct in zip(parts, needs(parts), strict=True):
        best = max(sorted(direct), key=lengths.__getitem__, default=None)
        previous.append(best)
        lengths.append((lengths[best] if best is not None else 0) + part.weights_bytes + 1)
    way, at = set[int](), max(range(len(parts)), key=lengths.__getitem__) if parts else None
    while at is not None:
        way.add(at)
        at = previous[at]
    return way


def _name(tensor: TensorSpec | str) -> str:
    return tensor if isinstance(tensor, str) else tensor.name
