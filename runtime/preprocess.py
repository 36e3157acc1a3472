"""From a camera frame or image file to `pixel_values`, exactly as in training.

The training transform is Pillow's own: `Image.resize` (which antialiases), `ToTensor`, `Normalize`. The
same Pillow call is made here, and the rest is a function of one byte per channel: a table of 256 values.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union, get_args

import numpy as np
from PIL import Image

from vla_edge.runtime.bundle.manifest import Channels, Preprocessing
from vla_edge.runtime.images.reading import check_file, check_image, check_size, read_image, to_rgb

from .errors import ImageError, InputError

Frame = Union[np.ndarray, Image.Image, str, "os.PathLike[str]"]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocessor:
    """Writes frames into `pixel_values`.

    Args:
        spec: the manifest's account of the training transform.
        channels: the order of colours in arrays: "rgb", or "bgr" as OpenCV gives them (`cv2.imread`,
            `VideoCapture.read`). Nothing in an array tells, and the wrong one gives another action without
            an error. Files and Pillow images say themselves which channel is which: this leaves them alone.

    Raises:
        InputError: `channels` is neither.
    """

    def __init__(self, spec: Preprocessing, channels: Channels = "rgb") -> None:
        check_channels(channels)
        self._size = (spec.width, spec.height)
        self._filter = FILTERS[spec.resample]
        self._shape = (3, spec.height, spec.width)
        levels = np.arange(256, dtype=np.float64) * spec.scale
        # Computed in float64, so that every float32 pixel is the nearest to the exact value.
        normalising = zip(spec.mean, spec.std, strict=True)
        self._tables = [((levels - mean) / std).astype(np.float32) for mean, std in normalising]
        # Where red, green and blue stand in an array: each is looked up from there, and nothing is copied.
        self._order = (0, 1, 2) if channels == "rgb" else (2, 1, 0)

    def __call__(self, frame: Frame, out: np.ndarray) -> None:
        """Resize and normalise one frame.

        Args:
            frame: uint8 [height, width, 3] (any strides) with its channels as said at construction, a Pillow
                image, or the path of an image file. The latter two are turned upright as their EXIF
                orientation says, and grey ones become RGB.
            out: float32 [3, H, W] or [1, 3, H, W], written in place.

        Raises:
            ImageError: the frame is not an RGB image; says what it is and how to convert it.
            ValueError: `out` has another shape or dtype.
        """
        planes = out[0] if out.ndim == 4 and len(out) == 1 else out
        if planes.shape != self._shape or planes.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {list(out.shape)} instead of float32 {[1, *self._shape]}")
        pixels = self._resized(frame)
        order = self._order if isinstance(frame, np.ndarray) else (0, 1, 2)
        for table, plane, channel in zip(self._tables, planes, order, strict=True):
            # A byte always indexes 256 entries; "clip" only spares the bounds check and its buffer.
            np.take(table, pixels[:, :, channel], out=plane, mode="clip")

    def check(self, frame: Frame, out: np.ndarray | None = None) -> None:
        """Refuse what cannot be a frame; see `check_frame`."""
        check_frame(frame)

    def _resized(self, frame: Frame) -> np.ndarray:
        """uint8 [H, W, 3] of the target size."""
        if isinstance(frame, np.ndarray):
            check_array(frame)
            if frame.shape[1::-1] == self._size:
                return frame
            image = Image.fromarray(frame)
        elif isinstance(frame, Image.Image):
            image = to_rgb(frame)
        elif isinstance(frame, (str, os.PathLike)):
            image = read_image(path_of(frame))
        else:
            raise no_frame(frame)
        return np.asarray(image.resize(self._size, self._filter))


def check_channels(channels: str) -> None:
    """Refuse an unknown order of channels.

    Raises:
        InputError: names it.
    """
    if channels not in get_args(Channels):
        raise InputError(f"channels {channels!r} are not known.", "Use 'rgb', or 'bgr' for OpenCV's arrays.")


def check_frame(frame: Frame) -> None:
    """Refuse what cannot be a frame by its type, dtype, shape or missing file; no pixel is looked at.

    Raises:
        ImageError: says what it is and how to convert it.
    """
    if isinstance(frame, np.ndarray):
        check_array(frame)
    elif isinstance(frame, Image.Image):
        check_image(frame)
    elif isinstance(frame, (str, os.PathLike)):
        check_file(path_of(frame))
    else:
        raise no_frame(frame)


def path_of(frame: str | os.PathLike[str]) -> Path:
    """The path of a frame that is one."""
    return Path(os.fsdecode(frame))  # what `__fspath__` gives may be bytes


def no_frame(frame: object) -> ImageError:
    """The refusal of what is of no type that a frame has."""
    return ImageError(
        f"a frame cannot be a {type(frame).__name__}.",
        "Give a uint8 RGB array [height, width, 3], a Pillow image, or the path of an image file.",
    )


def check_array(frame: np.ndarray) -> None:
    """Refuse an array that is not uint8 [height, width, 3].

    Raises:
        ImageError: says what it is and how to convert it.
    """
    shape = list(frame.shape)
    if isinstance(frame, np.ma.MaskedArray):
        raise ImageError("the frame is a masked array.", "Say what its masked pixels are: frame.filled(0).")
    if frame.dtype != np.uint8:
        hint = "Convert it to uint8 in 0..255"
        if np.issubdtype(frame.dtype, np.floating):
            hint += "; values in 0..1: (frame * 255).round().astype(np.uint8)"
        raise ImageError(f"the frame is {frame.dtype} {shape} instead of uint8.", f"{hint}.")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ImageError(
            f"the frame has shape {shape} instead of [height, width, 3].", _hint_for_shape(frame.shape)
        )
    check_size(frame.shape[1], frame.shape[0], "the frame")


def _hint_for_shape(shape: tuple[int, ...]) -> str:
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "It is grey; repeat its channel: np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)."
    if len(shape) == 3 and shape[2] == 4:
        return "It has an alpha channel; drop it: frame[..., :3]."
    if len(shape) == 3 and shape[0] == 3:
        return "Its channels come first; move them: frame.transpose(1, 2, 0)."
    if len(shape) == 4:
        return "It is a batch; give one frame at a time."
    return "Give an RGB frame."
