"""From a camera frame or image file to `pixel_values`, exactly as in training.

The training transform is Pillow's own: `Image.resize` (which antialiases), `ToTensor`, `Normalize`. The
same Pillow call is made here, and the rest is a function of one byte per channel: a table of 256 values.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, Union

import numpy as np
from PIL import Image, ImageOps

from .errors import ImageError
from .manifest import Preprocessing

Frame = Union[np.ndarray, Image.Image, str, "os.PathLike[str]"]

SMALLEST_SIDE_PX = 8  # less cannot be a camera's frame; it is a place holder or a mistake
# Modes whose conversion to RGB keeps every value; others (16-bit, CMYK, LAB) lose or reinterpret.
_LOSSLESS_MODES = frozenset({"RGB", "L", "1", "P", "RGBA", "LA", "PA"})
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocessor:
    """Writes frames into `pixel_values`.

    Args:
        spec: the manifest's account of the training transform.
    """

    def __init__(self, spec: Preprocessing) -> None:
        self._size = (spec.width, spec.height)
        self._filter = _FILTERS[spec.resample]
        self._shape = (3, spec.height, spec.width)
        levels = np.arange(256, dtype=np.float64) * spec.scale
        # Computed in float64, so that every float32 pixel is the nearest to the exact value.
        channels = zip(spec.mean, spec.std, strict=True)
        self._tables = [((levels - mean) / std).astype(np.float32) for mean, std in channels]

    def __call__(self, frame: Frame, out: np.ndarray) -> None:
        """Resize and normalise one frame.

        Args:
            frame: uint8 RGB [height, width, 3] (any strides), a Pillow image, or the path of an image file.
                Files are turned upright as their EXIF orientation says; grey ones become RGB.
            out: float32 [3, H, W] or [1, 3, H, W], written in place.

        Raises:
            ImageError: the frame is not an RGB image; says what it is and how to convert it.
            ValueError: `out` has another shape or dtype.
        """
        planes = out[0] if out.ndim == 4 and len(out) == 1 else out
        if planes.shape != self._shape or planes.dtype != np.float32:
            raise ValueError(f"out is {out.dtype} {list(out.shape)} instead of float32 {[1, *self._shape]}")
        pixels = self._resized(frame)
        for table, plane, channel in zip(self._tables, planes, range(3), strict=True):
            # A byte always indexes 256 entries; "clip" only spares the bounds check and its buffer.
            np.take(table, pixels[:, :, channel], out=plane, mode="clip")

    def check(self, frame: Frame) -> None:
        """Refuse what cannot be a frame by its type, dtype, shape or missing file; no pixel is looked at.

        Raises:
            ImageError: as a call would.
        """
        if isinstance(frame, np.ndarray):
            _check_array(frame)
        elif isinstance(frame, Image.Image):
            _check_mode(frame, "the image")
        elif isinstance(frame, (str, os.PathLike)):
            _check_file(Path(frame))
        else:
            raise _no_frame(frame)

    def _resized(self, frame: Frame) -> np.ndarray:
        """uint8 [H, W, 3] of the target size."""
        if isinstance(frame, np.ndarray):
            _check_array(frame)
            if frame.shape[1::-1] == self._size:
                return frame
            image = Image.fromarray(frame)
        elif isinstance(frame, Image.Image):
            image = _to_rgb(frame, "the image")
        elif isinstance(frame, (str, os.PathLike)):
            image = _read(Path(frame))
        else:
            raise _no_frame(frame)
        return np.asarray(image.resize(self._size, self._filter))


def _no_frame(frame: object) -> ImageError:
    return ImageError(
        f"a frame cannot be a {type(frame).__name__}.",
        "Give a uint8 RGB array [height, width, 3], a Pillow image, or the path of an image file.",
    )


def _check_array(frame: np.ndarray) -> None:
    shape = list(frame.shape)
    if frame.dtype != np.uint8:
        mend = "Convert it to uint8 in 0..255"
        if np.issubdtype(frame.dtype, np.floating):
            mend += "; values in 0..1: (frame * 255).round().astype(np.uint8)"
        raise ImageError(f"the frame is {frame.dtype} {shape} instead of uint8.", f"{mend}.")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise ImageError(
            f"the frame has shape {shape} instead of [height, width, 3].", _mend_of_shape(frame.shape)
        )
    _check_size(frame.shape[1], frame.shape[0], "the frame")


def _mend_of_shape(shape: tuple[int, ...]) -> str:
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "It is grey; repeat its channel: np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)."
    if len(shape) == 3 and shape[2] == 4:
        return "It has an alpha channel; drop it: frame[..., :3]."
    if len(shape) == 3 and shape[0] == 3:
        return "Its channels come first; move them: frame.transpose(1, 2, 0)."
    if len(shape) == 4:
        return "It is a batch; give one frame at a time."
    return "Give an RGB frame."


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < SMALLEST_SIDE_PX:
        raise ImageError(
            f"{name} is {width}x{height} pixels; a frame has at least {SMALLEST_SIDE_PX} on each side.",
            "Check where it comes from.",
        )


def _read(path: Path) -> Image.Image:
    """An image file, upright and in RGB."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not data:
        raise _empty(path)
    return _decode(data, path)


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not first:
        raise _empty(path)


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(f"{path} cannot be read: {error.strerror}.", "Give the path of an image file.")


def _empty(path: Path) -> ImageError:
    return ImageError(f"{path} is empty.", "Check what wrote it.")


def _decode(data: bytes, path: Path) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_pixels(image, path)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), str(path))
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image.", "Give a JPEG, PNG or the like.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is refused: {error}", _SCALE_DOWN) from error
    except _DECODER_ERRORS as error:
        raise ImageError(f"{path} cannot be decoded: {error}.", "It is damaged or truncated.") from error


_SCALE_DOWN = "Scale it down first; a camera's frame is not that large."
# What Pillow's decoders let through on damaged files, beside their own OSError.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    struct.error,
    MemoryError,
)


def _check_pixels(image: Image.Image, path: Path) -> None:
    """Pillow refuses twice its limit of pixels and only warns above it; both are refused here."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ImageError(
            f"{path} is refused: {image.width}x{image.height} pixels exceed Pillow's limit of {limit}.",
            _SCALE_DOWN,
        )


def _check_mode(image: Image.Image, name: str) -> None:
    _check_size(image.width, image.height, name)
    if image.mode not in _LOSSLESS_MODES:
        raise ImageError(
            f"{name} has pixels of mode {image.mode!r}, which do not convert to RGB without loss.",
            "Convert it to 8-bit RGB the way the training frames were.",
        )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    _check_mode(image, name)
    if "A" in image.getbands() or "transparency" in image.info:
        return _without_alpha(image, name)
    return image if image.mode == "RGB" else image.convert("RGB")


def _without_alpha(image: Image.Image, name: str) -> Image.Image:
    rgba = image.convert("RGBA")
    lowest: Any = rgba.getchannel("A").getextrema()[0]
    if lowest < 255:
        raise ImageError(
            f"{name} is partly transparent (RGBA, mode {image.mode!r}); what shows through is not known.",
            "Lay it over its background and save it as RGB.",
        )
    return rgba.convert("RGB")
