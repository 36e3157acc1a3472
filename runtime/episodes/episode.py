"""An episode: what a camera saw, what somebody drove meanwhile, and what he was asked to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.reading import check_size

MAX_FRAMES = 1_000_000  # nine hours at 30 a second; what is kept of a frame beside its pixels is small
MAX_COMPONENTS = 64  # of an action, as in a manifest


@dataclass(frozen=True, eq=False)
class Actions:
    """What was driven, one action a frame.

    Attributes:
        values: float64 [T, A], finite.
        names: of the A components, such as "linear_x".
        units: of each, such as "m/s"; None where the recording does not tell.
    """

    values: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Episode:
    """One recording, its frames still in its file.

    Attributes:
        name: unique among those that were opened together.
        path: the file or folder that it is read from.
        instruction: what was to be done; None where the recording does not tell.
        frame_count: T.
        times_s: float64 [T], seconds, never decreasing; None where the recording does not tell.
        actions: None of a recording of frames alone.
        read: yields the frames from an index on; use `frames`, which checks what comes.
    """

    name: str
    path: Path
    instruction: str | None
    frame_count: int
    times_s: np.ndarray | None
    actions: Actions | None
    read: Callable[[int], Iterator[np.ndarray]]

    def frames(self, start: int = 0) -> Iterator[np.ndarray]:
        """The frames from index `start` on, one in memory at a time; may be called again.

        Yields:
            uint8 RGB [height, width, 3], the caller's own.

        Raises:
            EpisodeError: the file is damaged or was changed, or it holds another number of frames.
        """
        count = start
        for frame in self.read(start):
            if count >= self.frame_count:
                break
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise EpisodeError(
                    f"frame {count} of {self.name} is {frame.dtype} {list(frame.shape)}, not RGB.",
                    "Record 8-bit RGB.",
                )
            check_size(frame.shape[1], frame.shape[0], f"frame {count} of {self.name}")
            yield frame
            count += 1
        if count < self.frame_count:
            raise EpisodeError(
                f"{self.path} ends after {count} of the {self.frame_count} frames of {self.name}.",
                "It is damaged or truncated: copy it again, or leave it out.",
            )


def checked_actions(
    values: np.ndarray, names: tuple[str, ...], units: tuple[str, ...] | None, path: Path
) -> Actions:
    """Actions whose every value is a number.

    Args:
        values: [T, A] of any number type.
        names, units: of the A components.
        path: for the error.

    Raises:
        EpisodeError: a shape or a count that does not fit, or NaN or infinity among the values.
    """
    values = np.ascontiguousarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names) or not 0 < len(names) <= MAX_COMPONENTS:
        raise EpisodeError(
            f"{path} has actions of shape {list(values.shape)} for the components {', '.join(names)[:200]}.",
            "An action a frame is needed, a value for each component.",
        )
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise EpisodeError(
            f"{path} has an action that is not finite, at step {int(np.argmin(finite))}.",
            "Look at what recorded it, or leave the episode out.",
        )
    return Actions(values, names, units)


def checked_times(times_s: np.ndarray, path: Path) -> np.ndarray:
    """Time stamps, float64 [T], that are finite and never go back.

    Raises:
        EpisodeError: names the first step where they do not.
    """
    times_s = np.ascontiguousarray(times_s, np.float64)
    wrong = ~np.isfinite(times_s)
    wrong[1:] |= np.diff(times_s) < 0
    if wrong.any():
        raise EpisodeError(
            f"{path} has time stamps that go back or are not finite, first at step {int(np.argmax(wrong))}.",
            "Look at the clock of what recorded it, or leave the episode out.",
        )
    return times_s


def check_frame_count(count: int, path: Path) -> int:
    """A number of frames that can be worked with.

    Raises:
        EpisodeError: none, or more than `MAX_FRAMES`.
    """
    if not 0 < count <= MAX_FRAMES:
        raise EpisodeError(
            f"{path} has {count} frames.",
            "An episode has at least one." if count <= 0 else f"At most {MAX_FRAMES} are read: split it.",
        )
    return count
