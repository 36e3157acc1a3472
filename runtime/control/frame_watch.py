"""Whether a camera still sees: frames that repeat themselves bit by bit, and frames that show nothing.

A sensor's noise makes two frames of a still scene differ, so equal ones come from a driver that has stopped and
hands out its buffers again.

A frame of one colour comes from no living sensor, and one without contrast at the dark end of the range, or clipped
at the bright one, from a covered, unlit or blinded lens: these stop the robot at once, noise or not. In between it may
be a plain wall in even light, so it passes for a while if noise shows that the sensor lives. Not for ever: neither
the policy nor this code can tell a wall from a sheet of paper on the lens, and either way it drives without seeing.

Every frame is looked at through a grid of four hundred pixels, in some tens of microseconds. The whole frame is
read only when a grid was seen before. Contents are compared, never objects: drivers fill the same array again.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import read_image, to_rgb

_GRID = 20
_BUFFERS = 8  # a driver that hangs may hand out its buffers in turn: A, B, C, A, B, C
_DARK, _BRIGHT = 32, 247  # of 256: a plain view that is darker, or as good as clipped, is no wall
_OUTLIERS = 100  # one pixel in so many is not counted at either end: hot pixels, a time stamp in the picture


class FrozenError(ImageError):
    """A camera that repeats itself; never leaves the controller."""


class BlindError(ImageError):
    """A camera that shows nothing; never leaves the controller."""


class FrameWatch:
    """Looks at each frame before the policy does.

    Args:
        repeats_allowed: how many frames in a row may bring nothing new; None for any number.
        repeats_ms: how long; None for ever.
        least_contrast: the grey levels, of 256, that a frame's pixels must span; None for any frame.
        plain_ms: how long a living camera may show less, where it is neither dark nor blinded; None for ever.
    """

    def __init__(
        self,
        repeats_allowed: int | None,
        repeats_ms: float | None,
        least_contrast: float | None,
        plain_ms: float | None,
    ) -> None:
        self._repeats_allowed, self._repeats_ms = repeats_allowed, repeats_ms
        self._least_contrast, self._plain_ms = least_contrast, plain_ms
        self._off = repeats_allowed is None and repeats_ms is None and least_contrast is None
        self.reset()

    def reset(self) -> None:
        """Forget the frames seen so far."""
        self._seen: dict[
            bytes, list[int]
        ] = {}  # grids, with the whole frames' checksums once they were needed
        self._repeating, self._plain = _Stretch(), _Stretch()
        self._looked_s: float | None = None

    def look(self, frame: Any, now_s: float) -> Any:
        """Refuse a frame that tells nothing.

        Args:
            frame: as `Policy.act` takes it.
            now_s: monotonic seconds.

        Returns:
            What to give to the policy: the frame; of a path or Pillow image what was decoded here, so that
            it is done once and what was judged is what is acted on. What cannot be a frame comes back as it
            is: the policy refuses it by name.

        Raises:
            ImageError: nothing new for too long, or nothing to be seen.
        """
        if self._off:
            return frame
        given = frame = _decoded(frame)
        if _is_only_row(frame):  # a policy's own `frame`, which is given back as it came
            frame = frame[0]
        grid = _grid(frame)
        if grid is None:
            return given
        since_ms = 0.0 if self._looked_s is None else (now_s - self._looked_s) * 1e3
        self._looked_s = now_s
        if self._least_contrast is not None:
            self._require_contrast(grid, frame, self._least_contrast, since_ms)
        self._require_news(grid.tobytes(), frame, since_ms)
        return given

    def _require_contrast(self, grid: np.ndarray, frame: Any, least: float, since_ms: float) -> None:
        pixels = grid
        found = _contrast(pixels)
        if found < least:  # stripes can fall between the grid's lines: a second look, with other steps
            pixels = np.asarray(frame)[::5, ::7]
            found = max(found, _contrast(pixels))
        if found >= least:
            self._plain = _Stretch()
            return
        self._plain.add(since_ms, self._plain_ms)
        if found == 0 or _is_dark_or_blinded(pixels) or self._plain.is_over(self._plain_ms):
            lasted = f", for {self._plain.ms:.0f} ms" if self._plain.ms else ""
            raise BlindError(
                f"the frame shows nothing: its pixels span {found} of 256 grey levels, "
                f"{least:g} are asked for{lasted}.",
                "Look at the camera: covered, dark, dead, or before a plain wall? "
                "ControllerOptions.least_contrast and plain_ms set the limits.",
            )

    def _require_news(self, grid: bytes, frame: Any, since_ms: float) -> None:
        if self._is_new(grid, frame):
            self._repeating = _Stretch()
            return
        self._repeating.add(since_ms, self._repeats_ms)
        repeats = self._repeating.frames
        too_many = self._repeats_allowed is not None and repeats > self._repeats_allowed
        if too_many or self._repeating.is_over(self._repeats_ms):
            raise FrozenError(
                f"the camera repeats itself: nothing new in {repeats} frames, {self._repeating.ms:.0f} ms.",
                "Look at the camera and its driver. ControllerOptions.repeats_allowed and repeats_ms set "
                "the limits.",
            )

    def _is_new(self, grid: bytes, frame: Any) -> bool:
        if grid not in self._seen:
            if len(self._seen) == _BUFFERS:
                del self._seen[next(iter(self._seen))]
            self._seen[grid] = []
            return True
        # A millisecond for 1280x720, against eight frames kept.
        whole = zlib.crc32(frame.tobytes() if isinstance(frame, Image.Image) else np.ascontiguousarray(frame))
        before = self._seen[grid]
        if whole in before:
            return False
        could_compare = bool(before)  # else it counts as a repeat, and the next one tells
        before.append(whole)  # several: buffers in turn may differ between the grid's lines only
        if len(before) > _BUFFERS:
            del before[0]
        return could_compare


class _Stretch:
    """How long something has lasted, by the frames that were looked at."""

    __slots__ = ("frames", "ms")

    def __init__(self) -> None:
        self.frames, self.ms = 0, 0.0

    def add(self, since_ms: float, limit_ms: float | None) -> None:
        """One more frame. What a loop's pause hid is no proof: half the limit is the most that one frame tells."""
        self.frames += 1
        self.ms += since_ms if limit_ms is None else min(since_ms, limit_ms / 2)

    def is_over(self, limit_ms: float | None) -> bool:
        return limit_ms is not None and self.ms > limit_ms


def _decoded(frame: Any) -> Any:
    if isinstance(frame, Image.Image):
        return to_rgb(frame)
    if isinstance(frame, (str, os.PathLike)):
        try:
            return read_image(Path(os.fsdecode(frame)))
        except ImageError:  # the policy says it
            return frame
    return frame


def _is_only_row(frame: Any) -> bool:
    return isinstance(frame, np.ndarray) and frame.ndim == 4 and len(frame) == 1


def _grid(frame: Any) -> np.ndarray | None:
    """Some pixels of a frame, uint8 [rows, columns, 3]; None for what is none."""
    if isinstance(frame, Image.Image):
        return np.asarray(frame.resize((_GRID, _GRID), Image.Resampling.NEAREST))
    is_frame = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
    if not is_frame or frame.shape[2] != 3 or frame.size == 0:
        return None
    down, right = max(1, frame.shape[0] // _GRID), max(1, frame.shape[1] // _GRID)
    return np.asarray(frame)[down // 2 :: down, right // 2 :: right]


def _contrast(pixels: np.ndarray) -> int:
    """The grey levels that pixels uint8 [.., .., 3] span, in the channel where it is most, without outliers."""
    low, high = _levels(pixels)
    return max(int(top) - int(bottom) for bottom, top in zip(low, high, strict=True))


def _is_dark_or_blinded(pixels: np.ndarray) -> bool:
    """Whether each channel is at an end of its range."""
    low, high = _levels(pixels)
    return all(top < _DARK or bottom > _BRIGHT for bottom, top in zip(low, high, strict=True))


def _levels(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest level of each channel, uint8 [3], without outliers."""
    channels = pixels.reshape(-1, 3).T.copy()
    last = channels.shape[1] - 1
    low = last // _OUTLIERS
    channels.partition((low, last - low), axis=1)
    return channels[:, low], channels[:, last - low]
