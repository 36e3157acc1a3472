"""What is written for a camera is opened as one, gives frames with their times, and fails in words."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from bag_files import Said, raw_image, twist, write_bag
from episode_files import even_frames, numbers_seen, write_video
from PIL import Image

from vla_edge.runtime.bundle.manifest import Camera as CameraSpec
from vla_edge.runtime.drive.cameras import open_camera
from vla_edge.runtime.drive.live_camera import LiveCamera, Source, captured_s
from vla_edge.runtime.drive.recorded_camera import RecordedCamera
from vla_edge.runtime.episodes.opening import Choice, open_episodes
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError

# FFmpeg's own device, as no camera is here
GENERATED = Source("testsrc=size=64x48:rate=50", "lavfi")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for at, frame in enumerate(even_frames(5)):
        Image.fromarray(frame).save(tmp_path / f"frame{at}.png")
    return tmp_path


def test_a_device_gives_frames_with_their_times() -> None:
    camera = LiveCamera(GENERATED)
    before_s = time.monotonic()
    first, second = camera.read(), camera.read()
    assert (first.frame.shape, first.frame.dtype) == ((48, 64, 3), np.uint8)
    assert before_s <= first.captured_s <= second.captured_s <= time.monotonic()
    assert (first.frame != second.frame).any()


def test_a_stream_that_ends_is_a_fault_and_is_opened_anew(tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.mp4", even_frames(3))
    camera = LiveCamera(Source(str(video), "mov"))
    assert numbers_seen([camera.read().frame for _ in range(3)]) == [0, 1, 2]
    with pytest.raises(OSError, match=r"drive\.mp4 has ended"):
        camera.read()
    assert numbers_seen([camera.read().frame]) == [0]


def test_a_device_that_is_not_there_fails_at_each_read() -> None:
    camera = LiveCamera(Source("/dev/no-video", "v4l2"))
    for _ in range(2):
        with pytest.raises(OSError, match="no-video"):
            camera.read()


def test_a_frame_too_small_for_a_camera_is_refused() -> None:
    with pytest.raises(ImageError, match="4x4 pixels"):
        LiveCamera(Source("testsrc=size=4x4:rate=50", "lavfi")).read()


@pytest.mark.parametrize(
    ("stamp_s", "expected"), [(99.9, 99.9), (98.0, 100.0), (100.1, 100.0), (0.0, 100.0), (None, 100.0)]
)
def test_a_kernels_stamp_counts_where_it_can_be_one(stamp_s: float | None, expected: float) -> None:
    assert captured_s(stamp_s, 100.0) == expected


def test_a_folder_is_played_at_its_rate_and_ends(folder: Path) -> None:
    waits: list[float] = []
    (episode,) = open_episodes(folder)
    camera = RecordedCamera(episode, 8.0, lambda: sum(waits), waits.append)
    shots = [camera.read() for _ in range(6)]
    assert shots[5] is None
    assert [shot.captured_s for shot in shots if shot] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert numbers_seen([shot.frame for shot in shots if shot]) == [0, 1, 2, 3, 4]


def test_a_video_is_played_at_its_own_times(tmp_path: Path) -> None:
    waits: list[float] = []
    (episode,) = open_episodes(write_video(tmp_path / "drive.mp4", even_frames(4)))
    camera = RecordedCamera(episode, 1000.0, lambda: sum(waits), waits.append)
    shots = [camera.read() for _ in range(4)]
    assert [shot.captured_s for shot in shots if shot] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_corrupt_jpeg_is_a_fault_and_the_next_frame_comes_after_it(folder: Path) -> None:
    (folder / "frame2.png").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    camera = open_camera(str(folder), 1000.0)
    for _ in range(2):
        assert camera.read() is not None
    with pytest.raises(ImageError, match=r"frame2\.png"):
        camera.read()
    shot = camera.read()
    assert shot is not None
    assert numbers_seen([shot.frame]) == [3]


@pytest.mark.parametrize(
    ("said", "size", "words"),
    [
        ("7", None, "there is no camera /dev/video7"),
        ("/dev/video123", None, "there is no camera /dev/video123"),
        ("no/such.mp4", None, "there is no camera or recording no/such.mp4"),
        ("http://example.org/a.m3u8", None, "http://example.org/a.m3u8 is no stream that is read"),
        ("concat:a|b", None, "there is no camera or recording concat"),
        ("rtsp://cam/1", "640x480", "--camera-size is of a device alone"),
        ("0", "large", "large is no size"),
    ],
)
def test_what_is_no_camera_is_refused(said: str, size: str | None, words: str) -> None:
    with pytest.raises(InputError) as refused:
        open_camera(said, 10.0, size)
    assert words in str(refused.value)


def test_a_folder_of_recordings_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, even_frames(3))
    with pytest.raises(InputError, match=r"holds 2 recordings: a\.mp4, b\.mp4"):
        open_camera(str(tmp_path), 10.0)


def test_one_camera_of_two_in_a_bag_is_taken_by_its_name_whatever_was_driven(tmp_path: Path) -> None:
    said = [
        Said("/left", 0, raw_image(even_frames(4)[1])),
        Said("/right", 0, raw_image(even_frames(4)[2])),
        *(Said(topic, 0, twist(1.0, 0.0, 0.0)) for topic in ("/cmd_vel", "/cmd_vel_nav")),
    ]
    write_bag(tmp_path / "bag", said)
    with pytest.raises(EpisodeError, match=r"several topics: /left, /right.\n.*--view"):
        open_camera(str(tmp_path / "bag"), 10.0, choice=Choice(actions=False))
    camera = open_camera(str(tmp_path / "bag"), 10.0, choice=Choice("/right", actions=False))
    shot = camera.read()
    assert shot is not None
    assert numbers_seen([shot.frame]) == [2]


def test_a_device_has_no_views() -> None:
    with pytest.raises(InputError, match="--view is of a recording alone"):
        open_camera("0", 10.0, choice=Choice("/right"))


TAKEN = CameraSpec(height=720, width=1280, channels="rgb")


def test_a_device_is_asked_for_what_the_bundle_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)
    camera = open_camera("0", 10.0, taken=TAKEN)
    assert camera._source.options == {"video_size": "1280x720"}  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="--camera-size 640x480 is not what this bundle takes") as raised:
        open_camera("0", 10.0, "640x480", TAKEN)
    assert "Leave --camera-size out" in raised.value.hint
