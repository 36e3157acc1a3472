"""Cameras and streams, read by FFmpeg's libraries (PyAV).

A frame has its packet's time and a mark where it is damaged; opening and reading are bounded in time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import MAX_PIXELS, check_size

_OPEN_S, _READ_S = 5.0, 2.0
# A kernel's stamp that is older than this is of another clock.
_PLAUSIBLE_S = 1.0


@dataclass(frozen=True)
class Source:
    """What FFmpeg opens: never a name whose format it may guess, such as a playlist that leads elsewhere.

    Attributes:
        url: a device's path, or an address.
        format: FFmpeg's name of it.
        options: of that format.
        stamped: whether its times are those of the monotonic clock, as of Linux' video devices.
    """

    url: str
    format: str
    options: Mapping[str, str] = field(default_factory=dict)
    stamped: bool = False


class LiveCamera:
    """A camera that is opened at the first frame, and anew after each failure.

    Args:
        source: see there.
    """

    instruction: str | None = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self._frames: Iterator[Captured] | None = None

    def read(self) -> Captured:
        """The next frame, uint8 RGB [height, width, 3].

        Raises:
            ImageError: a damaged frame, or one of a size that no camera has.
            OSError: the device or the stream failed or has ended.
        """
        if self._frames is None:
            self._frames = self._opened()
        try:
            return next(self._frames)
        except StopIteration:
            self._frames = None
            raise OSError(f"{self._source.url} has ended") from None
        except BaseException:
            self._frames = None
            raise

    def _opened(self) -> Iterator[Captured]:
        source = self._source
        timeout = (_OPEN_S, _READ_S)
        with contextlib.closing(
            av.open(source.url, format=source.format, options=dict(source.options), timeout=timeout)
        ) as container:
            if not container.streams.video:
                raise OSError(f"{source.url} gives no video")
            stream = container.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
            stream.thread_type = "SLICE"  # by frames, the decoder would be some behind
            for packet in container.demux(stream):
                arrived_s = time.monotonic()
                for frame in packet.decode():
                    taken_s = captured_s(frame.time if source.stamped else None, arrived_s)
                    yield Captured(_pixels(frame, source.url), taken_s)


def captured_s(stamp_s: float | None, arrived_s: float) -> float:
    """When a frame was taken: as the kernel says where that can be, else when its packet came."""
    if stamp_s is not None and 0 <= arrived_s - stamp_s <= _PLAUSIBLE_S:
        return float(stamp_s)
    return arrived_s


def _pixels(frame: Any, name: str) -> np.ndarray:
    check_size(frame.width, frame.height, f"a frame of {name}")
    if frame.is_corrupt:
        raise ImageError(f"{name} gave a damaged frame.", "Look at its cable or network.")
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return pixels
