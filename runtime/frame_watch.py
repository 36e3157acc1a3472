"""Whether a camera still sees: frames that repeat themselves bit by bit, and frames that show nothing.

A sensor's noise makes two frames of a still scene differ, so equal ones come from a driver that has stopped and
hands out its buffers again. A covered or dead sensor gives one grey level, or very few.

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

from .errors import ImageError
from .images import read_image, to_rgb

_GRID = 20
_BUFFERS = 8  # a driver that hangs may hand out its buffers in turn: A, B, C, A, B, C
_OUTLIERS = 100  # one pixel in so many is not counted at either end: hot pixels, a time stamp in the picture


class FrameWatch:
    """Looks at each frame before the policy does.

    Args:
        repeats_allowed: how many frames in a row may bring nothing new; None for any number.
        repeats_ms: how long; None for ever.
        least_contrast: the grey levels, of 256, that a frame's pixels must span; None for any frame.
    """

    def __init__(
        self, repeats_allowed: int | None, repeats_ms: float | None, least_contrast: float | None
    ) -> None:
        self._repeats_allowed, self._repeats_ms = repeats_allowed, repeats_ms
        self._least_contrast = least_contrast
        self._off = repeats_allowed is None and repeats_ms is None and least_contrast is None
        self.reset()

    def reset(self) -> None:
        """Forget the frames seen so far."""
        self._seen: dict[bytes, int | None] = {}  # grids, with the whole frame's checksum once it was needed
        self._repeats = 0
        self._new_at_s = 0.0

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
        frame = _decoded(frame)
        grid = _grid(frame)
        if grid is None:
            return frame
        if self._least_contrast is not None:
            self._require_contrast(grid, frame)
        self._require_news(grid.tobytes(), frame, now_s)
        return frame

    def _require_contrast(self, grid: np.ndarray, frame: Any) -> None:
        found = _contrast(grid)
        if found >= self._least_contrast:  # type: ignore[operator]
            return
        # Stripes can fall between the grid's lines: a second look, with steps that share no factor.
        found = max(found, _contrast(np.asarray(frame)[::5, ::7]))
        if found < self._least_contrast:  # type: ignore[operator]
            raise ImageError(
                f"the frame shows nothing: its pixels span {found} of 256 grey levels, "
                f"{self._least_contrast:g} are asked for.",
                "Look at the camera: covered, dark, or dead? ControllerOptions.least_contrast sets the limit.",
            )

    def _require_news(self, grid: bytes, frame: Any, now_s: float) -> None:
        if self._is_new(grid, frame):
            self._repeats, self._new_at_s = 0, now_s
            return
        self._repeats += 1
        silent_ms = (now_s - self._new_at_s) * 1e3
        too_many = self._repeats_allowed is not None and self._repeats > self._repeats_allowed
        if too_many or (self._repeats_ms is not None and silent_ms > self._repeats_ms):
            raise ImageError(
                f"the camera repeats itself: nothing new in {self._repeats} frames, {silent_ms:.0f} ms.",
                "Look at the camera and its driver. ControllerOptions.repeats_allowed and repeats_ms set "
                "the limits.",
            )

    def _is_new(self, grid: bytes, frame: Any) -> bool:
        if grid not in self._seen:
            if len(self._seen) == _BUFFERS:
                del self._seen[next(iter(self._seen))]
            self._seen[grid] = None
            return True
        # A millisecond for 1280x720, against eight frames kept.
        whole = zlib.crc32(frame.tobytes() if isinstance(frame, Image.Image) else np.ascontiguousarray(frame))
        before, self._seen[grid] = self._seen[grid], whole
        return before is not None and before != whole


def _decoded(frame: Any) -> Any:
    if isinstance(frame, Image.Image):
        return to_rgb(frame)
    if isinstance(frame, (str, os.PathLike)):
        try:
            return read_image(Path(os.fsdecode(frame)))
        except ImageError:  # the policy says it
            return frame
    return frame


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
    channels = pixels.reshape(-1, 3).T.copy()
    last = channels.shape[1] - 1
    low = last // _OUTLIERS
    channels.partition((low, last - low), axis=1)
    return max(int(row[last - low]) - int(row[low]) for row in channels)
