"""Episodes on their way to the backbones: in groups of one instruction, the next group read while one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Opened:
    """An episode whose frames are in memory.

    Attributes:
        at: its position among the recordings.
        frames: uint8 RGB [H, W, 3] each.
        digest: of what they show.
    """

    at: int
    frames: list[np.ndarray]
    digest: str


def grouped(instructions: Sequence[str], counts: Sequence[int], at_once: int) -> list[list[int]]:
    """Positions of episodes that are computed together, each episode in one group.

    Args:
        instructions: of the episodes.
        counts: of their frames.
        at_once: frames of a group at most, where it has more than one episode.
    """
    if at_once <= max(counts):
        return [[at] for at in range(len(counts))]
    groups: list[list[int]] = []
    for at in sorted(range(len(counts)), key=lambda at: instructions[at]):
        last = groups[-1] if groups else []
        is_one_text = bool(last) and instructions[last[0]] == instructions[at]
        if is_one_text and sum(counts[each] for each in last) + counts[at] <= at_once:
            last.append(at)
        else:
            groups.append([at])
    return groups


def opened_ahead(groups: Sequence[Sequence[int]], read: Callable[[int], Opened]) -> Iterator[list[Opened]]:
    """The groups in order, their episodes opened in a thread of their own, one group ahead."""

    def read_all(group: Sequence[int]) -> list[Opened]:
        return [read(at) for at in group]

    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(read_all, group) for group in groups[:1]]
        for following in [*groups[1:], None]:
            opened = coming.pop().result()
            if following is not None:
                coming.append(reader.submit(read_all, following))
            yield opened
