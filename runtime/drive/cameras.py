"""From what a user writes for a camera to one: a device, a stream, or a recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

_DEVICE = re.compile(r"[0-9]{1,3}|/dev/video[0-9]{1,3}")
_STREAM = re.compile(r"rtsps?://\S+")
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


class OpenedCamera(Protocol):
    """A camera that may know what is to be done."""

    @property
    def instruction(self) -> str | None: ...

    def read(self) -> Captured | None: ...


def open_camera(said: str, rate_hz: float, size: str | None = None) -> OpenedCamera:
    """The camera that is meant; a device or stream is opened by its first `read`.

    Args:
        said: a number, `/dev/video0`, `rtsp://...`, or the path of a recording (a video, a folder of images, HDF5,
            a bag).
        rate_hz: of a recording that does not tell the times of its frames.
        size: of a device, such as "640x480".

    Raises:
        InputError: there is nothing like it, or it holds several recordings.
        EpisodeError: the recording cannot be read.
        MissingPackageError: the extra [camera] is not installed.
    """
    if size is not None and not _SIZE.fullmatch(size):
        raise InputError(f"{one_line(size)} is no size of frames.", "Write it as 640x480.")
    if _DEVICE.fullmatch(said):
        path = Path(f"/dev/video{said}" if said.isdigit() else said)
        if not path.exists():
            raise InputError(f"there is no camera {path}.", "Is it plugged in? `ls /dev/video*` tells.")
        options = {} if size is None else {"video_size": size}
        return _live(str(path), "v4l2", options, stamped=True)
    if size is not None:
        raise InputError("--camera-size is of a device alone.", "A stream or recording has its own.")
    if _STREAM.fullmatch(said):
        return _live(said, "rtsp", {"rtsp_transport": "tcp", "fflags": "nobuffer"}, stamped=False)
    return _recorded(Path(said), rate_hz)


def _live(url: str, format_name: str, options: dict[str, str], *, stamped: bool) -> OpenedCamera:
    require("camera", "av")
    from .live_camera import LiveCamera, Source

    return LiveCamera(Source(url, format_name, options, stamped))


def _recorded(path: Path, rate_hz: float) -> OpenedCamera:
    from vla_edge.runtime.episodes.opening import open_episodes

    from .recorded_camera import RecordedCamera

    if not path.exists():
        raise InputError(
            f"there is no camera or recording {one_line(str(path))}.",
            "Give a number, /dev/video0, rtsp://..., or the path of a video or folder.",
        )
    episodes = open_episodes(path)
    if len(episodes) > 1:
        names = ", ".join(one_line(name) for name in episodes.names[:3])
        raise InputError(f"{path} holds {len(episodes)} recordings: {names}...", "Give one of them.")
    return RecordedCamera(next(iter(episodes)), rate_hz)
