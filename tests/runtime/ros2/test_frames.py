"""Compressed images as frames: the newest one, when it was taken, and what is none."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime.control.causes import Cause, cause_of
from vla_edge.runtime.control.clock_watch import ClockError
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.ros2.frames import StampedFrame, TopicCamera

WALL_NS = 1_800_000_000_000_000_000


def encoded(kind: str = "PNG", mode: str = "RGB", value: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture
def camera() -> TopicCamera:
    return TopicCamera("/camera", 1 << 16, False, wall_ns=lambda: WALL_NS)


@pytest.fixture
def stamped() -> TopicCamera:
    return TopicCamera("/camera", 1 << 16, True, wall_ns=lambda: WALL_NS)


def test_the_newest_image_wins_and_knows_its_stamp(camera: TopicCamera) -> None:
    for at in range(3):
        camera.put(encoded(value=at), 10 + at, 5.0 + at)
    found = camera.read()
    assert found is not None
    frame = found.frame
    assert isinstance(frame, StampedFrame)
    assert (frame.shape, frame.dtype, frame.stamp_ns, found.captured_s) == ((24, 32, 3), np.uint8, 12, 7.0)
    assert np.array_equal(frame, np.asarray(Image.open(io.BytesIO(encoded(value=2)))))
    assert camera.replaced == 2


def test_a_read_waits_for_an_image_and_for_the_end(camera: TopicCamera) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend([camera.read(), camera.read()]))
    thread.start()
    camera.put(encoded("JPEG"), 0, 1.0)
    while not found and camera._image is not None:
        pass
    camera.end()
    thread.join(10)
    assert found[-1] is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_ones_become_rgb(camera: TopicCamera, kind: str) -> None:
    camera.put(encoded(kind, "L"), 0, 1.0)
    found = camera.read()
    assert found is not None
    assert found.frame.shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with nothing: neither JPEG nor PNG"),
        (encoded("GIF"), "neither JPEG nor PNG"),
        (encoded("TIFF"), "neither JPEG nor PNG"),
        (b"\xff\xd8\xff\xe0 no picture", "an image on /camera"),
        (encoded("JPEG")[:300], "an image on /camera"),
        (encoded() + bytes(1 << 16), "65536 are allowed"),
        (bytes(12) + encoded(), "neither JPEG nor PNG"),  # compressedDepth
    ],
)
def test_what_is_no_frame_is_refused_and_the_next_one_read(
    camera: TopicCamera, data: bytes, words: str
) -> None:
    camera.put(data, 0, 1.0)
    with pytest.raises(ImageError) as refused:
        camera.read()
    assert words in str(refused.value)
    assert cause_of(refused.value) is Cause.FRAME
    camera.put(encoded(), 0, 2.0)
    assert camera.read() is not None


def test_a_stamp_tells_when_a_frame_was_taken(stamped: TopicCamera) -> None:
    stamped.put(encoded(), WALL_NS - 30_000_000, 5.0)
    found = stamped.read()
    assert found is not None
    assert found.captured_s == pytest.approx(4.97)


@pytest.mark.parametrize(
    ("stamp_ns", "words"),
    [
        (0, "has no stamp, and use_stamp asks for one"),
        (WALL_NS - 11_000_000_000, "was taken 11.000 s before it came"),
        (WALL_NS + 6_000_000, "was taken 0.006 s after it came"),
    ],
)
def test_a_stamp_of_another_clock_is_a_fault_of_clocks(
    stamped: TopicCamera, stamp_ns: int, words: str
) -> None:
    stamped.put(encoded(), stamp_ns, 5.0)
    with pytest.raises(ClockError, match=words) as refused:
        stamped.read()
    assert cause_of(refused.value) is Cause.CLOCK


def test_a_stamp_a_moment_ahead_is_now(stamped: TopicCamera) -> None:
    stamped.put(encoded(), WALL_NS + 4_000_000, 5.0)
    found = stamped.read()
    assert found is not None
    assert found.captured_s == 5.0
