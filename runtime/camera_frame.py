"""A camera's frame, copied as it is into an engine that takes it so: once, or not at all where it lies there."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from vla_edge.runtime.bundle.manifest import Camera, Channels
from vla_edge.runtime.images.reading import read_image, to_rgb

from .errors import ImageError, InputError
from .preprocess import Frame, check_array, check_channels, check_frame, no_frame, path_of


class FrameWriter:
    """Writes frames into an engine that was exported with `--camera`: of that size alone, every byte as it is.

    Args:
        camera: the manifest's account of it.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._shape = (camera.height, camera.width, 3)

    def __call__(self, frame: Frame, out: np.ndarray) -> None:
        """Copy one frame.

        Args:
            frame: uint8 [height, width, 3] (any strides) of the camera's size and order of channels; `out` itself
                or its only row, of which nothing is copied; a Pillow image, or the path of an image file. The latter
                two are turned upright as their EXIF orientation says, and get the camera's order of channels.
            out: uint8 [height, width, 3] or [1, height, width, 3], written in place.

        Raises:
            ImageError: the frame is not an RGB image, or of another size; says what it is and what to do.
        """
        target = out[0] if out.ndim == 4 else out
        if isinstance(frame, np.ndarray):
            if not _is_same(frame, out, target):
                self._check_array(frame)
                _copy(target, frame)
            return
        if isinstance(frame, Image.Image):
            image, name = to_rgb(frame), "the image"
        elif isinstance(frame, (str, os.PathLike)):
            path = path_of(frame)
            image, name = read_image(path), str(path)
        else:
            raise no_frame(frame)
        self.check_size(image.height, image.width, name)
        pixels = np.asarray(image)
        _copy(target, pixels if self._camera.channels == "rgb" else pixels[:, :, ::-1])

    def check(self, frame: Frame, out: np.ndarray) -> None:
        """Refuse what cannot be a frame of this camera, by type, dtype, an array's shape or a missing file.

        No pixel is looked at, and no file opened, so of images and files the size is not known.

        Raises:
            ImageError: as a call would.
        """
        if isinstance(frame, np.ndarray):
            if not _is_same(frame, out, out[0]):
                self._check_array(frame)
        else:
            check_frame(frame)

    def _check_array(self, frame: np.ndarray) -> None:
        if frame.shape != self._shape or frame.dtype != np.uint8 or type(frame) is not np.ndarray:
            check_array(frame)
            self.check_size(frame.shape[0], frame.shape[1], "the frame")

    def check_size(self, height: int, width: int, name: str) -> None:
        """Refuse another size than the camera's.

        Raises:
            ImageError: names both, and what to do.
        """
        camera = self._camera
        if (height, width) != (camera.height, camera.width):
            asked = Camera(height=height, width=width, channels=camera.channels).options
            raise ImageError(
                f"{name} is {width} pixels wide and {height} high; this bundle takes frames {camera.width} wide and "
                f"{camera.height} high alone.",
                f"Set the camera to that size, or resize its frames; or export for this one: vla-export {asked}",
            )


def check_order(channels: str | None, camera: Camera | None) -> Channels:
    """The order of channels that arrays come in: as asked for, else the camera's, else "rgb".

    Raises:
        InputError: an unknown one, or another than the camera's, which is in the graph.
    """
    if channels is not None:
        check_channels(channels)
    if camera is None:
        return _known(channels)
    if channels not in (None, camera.channels):
        asked = Camera(height=camera.height, width=camera.width, channels=_known(channels)).options
        raise InputError(
            f"channels={channels!r} is asked for, and this bundle takes its camera's frames as {camera.channels!r}.",
            f"Export it so: vla-export {asked}; or leave channels out, and give {camera.channels!r} arrays.",
        )
    return camera.channels


def _known(channels: str | None) -> Channels:
    return "bgr" if channels == "bgr" else "rgb"


def _copy(target: np.ndarray, frame: np.ndarray) -> None:
    # A view with its channels turned is three times as fast one by one, if it is not of this very memory.
    if frame.strides[2] < 0 and not np.may_share_memory(target, frame):
        for channel in range(3):
            target[:, :, channel] = frame[:, :, channel]
    else:
        np.copyto(target, frame)


def _is_same(frame: np.ndarray, out: np.ndarray, target: np.ndarray) -> bool:
    """Whether an array is the engine's own, as it is or without the axis of the batch."""
    if frame is out:
        return True
    like = out if frame.ndim == out.ndim else target
    if frame.shape != like.shape or frame.strides != like.strides or frame.dtype != like.dtype:
        return False
    if isinstance(frame, np.ma.MaskedArray):
        return False
    ours: int = like.__array_interface__["data"][0]
    return bool(frame.__array_interface__["data"][0] == ours)
