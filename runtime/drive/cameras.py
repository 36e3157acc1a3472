"""From what a user writes for a camera to one: a device, a stream, or a recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vla_edge.runtime.camera_frame import FrameWriter
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.control.loop.protocols import Camera, Captured
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.manifest import Camera as CameraSpec
    from vla_edge.runtime.episodes.opening import Choice
    from vla_edge.runtime.policy import Policy

_DEVICE = re.compile(r"[0-9]{1,3}|/dev/video[0-9]{1,3}")
_STREAM = re.compile(r"rtsps?://\S+")
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


class OpenedCamera(Protocol):
    """A camera that may know what is to be done."""

    @property
    def instruction(self) -> str | None: ...

    def read(self) -> Captured | None: ...


def open_camera(
    said: str,
    rate_hz: float,
    size: str | None = None,
    taken: CameraSpec | None = None,
    choice: Choice | None = None,
) -> OpenedCamera:
    """The camera that is meant; a device or stream is opened by its first `read`.

    Args:
        said: a number, `/dev/video0`, `rtsp://...`, or the path of a recording (a video, a folder of images, HDF5,
            a bag).
        rate_hz: of a recording that does not tell the times of its frames.
        size: of a device, such as "640x480".
        taken: whose frames alone the bundle takes; a device is asked for them.
        choice: of what a recording holds.

    Raises:
        InputError: there is nothing like it, it holds several recordings, or its frames are not those of `taken`.
        EpisodeError: the recording cannot be read.
        MissingPackageError: the extra [camera] is not installed.
    """
    if size is not None and not _SIZE.fullmatch(size):
        raise InputError(f"{one_line(size)} is no size of frames.", "Write it as 640x480.")
    if taken and size not in (None, f"{taken.width}x{taken.height}"):
        raise InputError(
            f"--camera-size {size} is not what this bundle takes: frames {taken.width} wide and {taken.height} high.",
            "Leave --camera-size out: a device is asked for what the bundle takes.",
        )
    if choice and choice.view and (_DEVICE.fullmatch(said) or _STREAM.fullmatch(said)):
        raise InputError("--view is of a recording alone.", "A device or stream is a camera by itself.")
    if _DEVICE.fullmatch(said):
        path = Path(f"/dev/video{said}" if said.isdigit() else said)
        if not path.exists():
            raise InputError(f"there is no camera {path}.", "Is it plugged in? `ls /dev/video*` tells.")
        if taken:
            size = f"{taken.width}x{taken.height}"
        options = {} if size is None else {"video_size": size}
        return _live(str(path), "v4l2", options, stamped=True)
    if size is not None:
        raise InputError("--camera-size is of a device alone.", "A stream or recording has its own.")
    if _STREAM.fullmatch(said):
        return _live(said, "rtsp", {"rtsp_transport": "tcp", "fflags": "nobuffer"}, stamped=False)
    if "://" in said:
        raise InputError(
            f"{one_line(said)} is no stream that is read.", "Streams are rtsp://... or rtsps://..."
        )
    return _recorded(Path(said), rate_hz, taken, choice)


def in_order(camera: Camera, policy: Policy) -> Camera:
    """A camera that gives RGB, as a policy takes its arrays: itself, or one that turns them."""
    return camera if policy.channels == "rgb" else _Turned(camera, policy)


class _Turned:
    def __init__(self, camera: Camera, policy: Policy) -> None:
        self._camera, self._policy = camera, policy

    def read(self) -> Captured | None:
        shot = self._camera.read()
        if shot is None:
            return None
        frame, captured_s = shot
        return Captured(self._policy.in_order(frame), captured_s)


def _live(url: str, format_name: str, options: dict[str, str], *, stamped: bool) -> OpenedCamera:
    require("camera", "av")
    from .live_camera import LiveCamera, Source

    return LiveCamera(Source(url, format_name, options, stamped))


def _recorded(path: Path, rate_hz: float, taken: CameraSpec | None, choice: Choice | None) -> OpenedCamera:
    from vla_edge.runtime.episodes.opening import open_episodes

    from .recorded_camera import RecordedCamera

    if not path.exists():
        raise InputError(
            f"there is no camera or recording {one_line(str(path))}.",
            "Give a number, /dev/video0, rtsp://..., or the path of a video or folder.",
        )
    episodes = open_episodes(path, choice=choice)
    if len(episodes) > 1:
        names = ", ".join(one_line(name) for name in episodes.names[:3])
        raise InputError(f"{path} holds {len(episodes)} recordings: {names}...", "Give one of them.")
    episode = next(iter(episodes))
    if taken:
        height, width = next(episode.frames()).shape[:2]
        FrameWriter(taken).check_size(height, width, f"the first frame of {one_line(str(path))}")
    return RecordedCamera(episode, rate_hz)
