"""Video files, decoded one frame at a time by FFmpeg's libraries (PyAV).

A file is opened by the one format that its first bytes tell, through a file that is open already: FFmpeg is
given no name, so no list of other files (HLS, concat) can make it open them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.reading import MAX_PIXELS, check_size

from .action_csv import actions_beside
from .episode import Episode, check_frame_count, checked_times
from .kinds import video_format
from .reading import reading, require_file
from .scenarios import told_instruction

_BITS = 8
_DECODE_AGAIN = "Write it again as H.264 with 8 bits a channel: ffmpeg -i IN -pix_fmt yuv420p OUT.mp4"


def open_video(path: Path, name: str, with_actions: bool = True) -> Episode:
    """A video as an episode, with the actions of a CSV file of its name where there is one and they are wanted.

    Raises:
        EpisodeError: no video stream, or it is damaged; names the file.
    """
    stamps_s = _stamps(path)
    count = check_frame_count(len(stamps_s), path)
    times_s = checked_times(stamps_s - stamps_s[0], path)
    # neighbours may be a tick of the clock apart; what is asked for are the stamps themselves
    close_s = max(float(np.median(np.diff(stamps_s))) / 2, 1e-6) if count > 1 else 1.0

    def read(start: int) -> Iterator[np.ndarray]:
        return frames_at(path, stamps_s[start:], close_s)

    actions = actions_beside(path.with_suffix(".csv"), count) if with_actions else None
    return Episode(name, path, told_instruction(path.stem), count, times_s, actions, read)


def frames_at(path: Path, wanted_s: Sequence[float] | np.ndarray, close_s: float) -> Iterator[np.ndarray]:
    """The frames of a video that are nearest to some moments.

    Args:
        path: the video.
        wanted_s: seconds by the video's own clock, never decreasing.
        close_s: how far from its moment a frame may be.

    Yields:
        uint8 RGB [height, width, 3] for each moment.

    Raises:
        EpisodeError: no frame is close enough, or the video is damaged; names the file.
    """
    if not len(wanted_s):
        return
    with _opened(path) as (container, stream):
        if wanted_s[0] > 0:
            container.seek(int(wanted_s[0] / stream.time_base), stream=stream)
        decoded = iter(container.decode(stream))
        earlier, later = None, next(decoded, None)
        for moment_s in wanted_s:
            while later is not None and _time_s(later, path) < moment_s:
                earlier, later = later, next(decoded, None)
            best = _nearer(earlier, later, moment_s)
            if best is None or abs(best.time - moment_s) > close_s:
                raise EpisodeError(
                    f"{path} has no frame at {moment_s:.3f} s.", "It is damaged or truncated: copy it again."
                )
            yield _pixels(best, path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    require_file(path)
    container_format = video_format(path)
    if container_format is None:
        raise EpisodeError(f"{path} is not a video.", "Known are MP4, MOV, Matroska, WebM and AVI.")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    with (
        reading(path, "a video"),
        open(os.open(path, flags), "rb") as file,
        av.open(file, format=container_format) as container,
    ):
        if not container.streams.video:
            raise EpisodeError(f"{path} holds no video.", "Give a file with frames.")
        stream = container.streams.video[0]
        check_size(stream.codec_context.width, stream.codec_context.height, f"a frame of {path}")
        # A frame may say another size than the file's head: the decoder itself refuses it then. Damage is an
        # error; what decoders make up in its place was never seen by a camera.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
        yield container, stream


def _stamps(path: Path) -> np.ndarray:
    """When each frame is shown, float64 [T] seconds by the video's clock; nothing is decoded."""
    with _opened(path) as (container, stream):
        ticks: list[int] = []
        seen = 0
        for packet in container.demux(stream):
            seen += packet.size > 0
            if packet.size == 0 or packet.is_discard:  # the last one is empty
                continue
            if packet.pts is None:
                raise EpisodeError(f"{path} has frames without a time.", _DECODE_AGAIN)
            ticks.append(packet.pts)
            if len(ticks) % 4096 == 0:
                check_frame_count(len(ticks), path)
        if seen < stream.frames:  # as the file's head tells; 0 where it does not
            raise EpisodeError(
                f"{path} ends after {seen} of its {stream.frames} frames.", "It was cut short: copy it again."
            )
        # in the order of decoding, where some frames lean on later ones
        return np.array(sorted(ticks), np.float64) * float(stream.time_base)


def _nearer(earlier: Any, later: Any, moment_s: float) -> Any:
    """Of two frames, of which either may be missing, the one whose time is nearer."""
    if earlier is None or later is None:
        return earlier or later
    return earlier if moment_s - earlier.time <= later.time - moment_s else later


def _time_s(frame: Any, path: Path) -> float:
    if frame.time is None:
        raise EpisodeError(f"{path} has frames without a time.", _DECODE_AGAIN)
    return float(frame.time)


def _pixels(frame: Any, path: Path) -> np.ndarray:
    check_size(frame.width, frame.height, f"a frame of {path}")
    if frame.is_corrupt:
        raise EpisodeError(
            f"{path} has a damaged frame at {frame.time:.3f} s.", "Copy it again, or leave it out."
        )
    if any(component.bits > _BITS for component in frame.format.components):
        raise EpisodeError(
            f"{path} has more than 8 bits a channel, which do not convert without loss.", _DECODE_AGAIN
        )
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    # as a phone held upright says: degrees counter-clockwise, in quarters
    quarters = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels
