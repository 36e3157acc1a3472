"""A recording as a camera: its frames at the pace at which they were taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.episodes.episode import Episode


class RecordedCamera:
    """Gives each frame when its time has come, counted from the first one; then ends.

    Args:
        episode: the recording.
        rate_hz: of its frames, where it does not tell their times.
        clock, sleep: monotonic seconds, and how to wait for them.
    """

    def __init__(
        self,
        episode: Episode,
        rate_hz: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.instruction = episode.instruction
        self._episode, self._clock, self._sleep = episode, clock, sleep
        times_s = episode.times_s
        self._times_s = np.arange(episode.frame_count) / rate_hz if times_s is None else times_s - times_s[0]
        self._at = 0
        self._start_s: float | None = None
        self._frames: Iterator[np.ndarray] | None = None

    def read(self) -> Captured | None:
        """The next frame, uint8 RGB [height, width, 3]; None after the last one.

        Raises:
            EpisodeError, ImageError: this frame is damaged; the next call gives the one after it.
        """
        if self._at >= self._episode.frame_count:
            return None
        at, self._at = self._at, self._at + 1
        if self._frames is None:
            self._frames = self._episode.frames(at)
        try:
            frame = next(self._frames)
        except BaseException:
            self._frames = None
            raise
        finally:
            self._wait_for(at)
        return Captured(frame, self._clock())

    def _wait_for(self, at: int) -> None:
        if self._start_s is None:
            self._start_s = self._clock() - self._times_s[at]
        wait_s = float(self._start_s + self._times_s[at]) - self._clock()
        if wait_s > 0:
            self._sleep(wait_s)
