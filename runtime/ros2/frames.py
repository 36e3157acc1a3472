"""A topic of compressed images as the loop's camera: one slot, where a newer image replaces the one before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vla_edge.runtime.control.clock_watch import ClockError
from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import decode_image

# Told by their first bytes, whatever the message's `format` says: "rgb8; jpeg compressed bgr8" is usual.
_BEGINS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_SLACK_S = 0.005  # by which two disciplined clocks may differ
_OTHER_CLOCK_S = 10.0  # an older stamp is of another clock, or of a recording
_NS = 1e9


class StampedFrame(np.ndarray):
    """A frame, uint8 [height, width, 3], that knows the stamp of its message's header.

    Attributes:
        stamp_ns: nanoseconds; 0 where the sender set none.
    """

    stamp_ns: int = 0


class _Image(NamedTuple):
    data: bytes
    stamp_ns: int
    received_s: float
    wall_ns: int


class TopicCamera:
    """`put` from the transport's thread, `read` from the loop's camera thread.

    Args:
        topic: its name, for errors.
        max_bytes: largest compressed image.
        use_stamp: whether a frame was taken at its header's stamp, by this machine's clock of day. Else it counts
            as taken when it came, and what it waited before that is not known.
        in_order: from an RGB frame to one in the policy's order of channels; None where that is RGB.
        wall_ns: the clock of day, nanoseconds.

    Attributes:
        replaced: images that a newer one replaced before they were decoded.
    """

    def __init__(
        self,
        topic: str,
        max_bytes: int,
        use_stamp: bool,
        in_order: Callable[[np.ndarray], np.ndarray] | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._topic, self._max_bytes, self._use_stamp, self._wall_ns = topic, max_bytes, use_stamp, wall_ns
        self._in_order = in_order
        self._news = threading.Condition()
        self._image: _Image | None = None
        self._ended = False
        self.replaced = 0

    def put(self, data: bytes, stamp_ns: int, received_s: float) -> None:
        """The newest image, not decoded; one that was not read yet is dropped."""
        with self._news:
            self.replaced += self._image is not None
            self._image = _Image(data, stamp_ns, received_s, self._wall_ns())
            self._news.notify()

    def end(self) -> None:
        """`read` returns None from now on."""
        with self._news:
            self._ended = True
            self._news.notify()

    def read(self) -> Captured | None:
        """The next frame, decoded; None after `end`.

        Raises:
            ImageError: it is no JPEG or PNG, too large, or damaged.
            ClockError: its stamp is of another clock.
        """
        with self._news:
            self._news.wait_for(lambda: self._image is not None or self._ended)
            image, self._image = self._image, None
        if self._ended or image is None:
            return None
        captured_s = self._captured_s(image)
        return Captured(self._decoded(image), captured_s)

    def _decoded(self, image: _Image) -> StampedFrame:
        size = len(image.data)
        if size > self._max_bytes:
            raise ImageError(
                f"an image on {self._topic} has {size} bytes, {self._max_bytes} are allowed.",
                "Let the camera compress more, or raise max_image_bytes.",
            )
        if not image.data.startswith(_BEGINS):
            raise ImageError(
                f"an image on {self._topic} begins with {image.data[:8].hex() or 'nothing'}: neither JPEG nor PNG.",
                "Publish it by image_transport's plugin `compressed`.",
            )
        pixels = np.asarray(decode_image(image.data, f"an image on {self._topic}"))
        frame = (pixels if self._in_order is None else self._in_order(pixels)).view(StampedFrame)
        frame.stamp_ns = image.stamp_ns
        return frame

    def _captured_s(self, image: _Image) -> float:
        if not self._use_stamp:
            return image.received_s
        if image.stamp_ns == 0:
            raise ClockError(f"an image on {self._topic} has no stamp, and use_stamp asks for one.")
        age_s = (image.wall_ns - image.stamp_ns) / _NS
        if not -_SLACK_S <= age_s <= _OTHER_CLOCK_S:
            raise ClockError(
                f"an image on {self._topic} was taken {abs(age_s):.3f} s {'before' if age_s > 0 else 'after'} it came, "
                "by its stamp and this machine's clock of day: the clocks differ (see use_stamp in docs/ros2.md)."
            )
        return image.received_s - max(age_s, 0.0)
