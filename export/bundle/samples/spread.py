"""Which frames of recorded episodes are looked at: a few, of all instructions, episodes and times."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """A frame: of which episode, and which of its frames, from 0."""

    episode: int
    frame: int


def spread(
    frame_counts: Sequence[int], kinds: Sequence[Hashable], count: int, first_frames: bool = False
) -> list[Place]:
    """Choose frames that stand for all; the same frames for the same episodes.

    Each kind has its share, and in it as many episodes as can be. Where several episodes of a kind give a frame
    each, it is the first of the first, the last of the last, and between them ever later ones; an episode that
    gives more of them gives its first and its last, and what lies evenly between.

    Args:
        frame_counts: of each episode, at least 1.
        kinds: of each episode, such as its instruction.
        count: how many; all frames where there are fewer.
        first_frames: an episode that gives a single frame gives its first.

    Returns:
        Different frames, by episode and time. The first is the first frame of an episode.
    """
    members: dict[Hashable, list[int]] = {}
    for at, kind in enumerate(kinds):
        members.setdefault(kind, []).append(at)
    groups = list(members.values())
    totals = [sum(frame_counts[at] for at in group) for group in groups]
    taken = [0] * len(frame_counts)
    for group, share in zip(groups, _shares(count, totals), strict=True):
        for at, frames in zip(group, _shares(share, [frame_counts[at] for at in group]), strict=True):
            taken[at] = frames
    chosen = [
        Place(at, frame) for at, frames in enumerate(taken) for frame in _even(frame_counts[at], frames)
    ]
    for row in _rows_of_singles(groups, taken):
        for rank, at in enumerate(row):
            frame = 0 if first_frames else _at_rank(frame_counts[at], rank, len(row))
            chosen.append(Place(at, frame))
    return sorted(chosen)


def _shares(count: int, room: Sequence[int]) -> list[int]:
    """As even as the room allows; what is too little for all goes to places that lie evenly among them."""
    shares = [0] * len(room)
    while count > 0:
        free = [at for at, most in enumerate(room) if shares[at] < most]
        if not free:
            break
        given = free if count >= len(free) else [free[at * len(free) // count] for at in range(count)]
        for at in given:
            shares[at] += 1
        count -= len(given)
    return shares


def _even(frame_count: int, frames: int) -> list[int]:
    """Several frames of one episode, its first and its last among them; none where it gives a single one."""
    return [_at_rank(frame_count, rank, frames) for rank in range(frames)] if frames > 1 else []


def _rows_of_singles(groups: Sequence[Sequence[int]], taken: Sequence[int]) -> list[list[int]]:
    """Episodes that give one frame each, in rows that go from early to late: those of a kind, or of lone ones."""
    rows, lone = [], []
    for group in groups:
        row = [at for at in group if taken[at] == 1]
        if sum(taken[at] for at in group) > 1:
            rows.append(row)
        else:
            lone += row
    return [*rows, lone]


def _at_rank(frame_count: int, rank: int, of: int) -> int:
    """The frame at an even step from the first (rank 0) to the last (rank `of` - 1)."""
    return rank * (frame_count - 1) // (of - 1) if of > 1 else 0
