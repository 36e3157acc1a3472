"""Image files and Pillow images, upright and in RGB, or refused by name.

Every command reads images here. They come from outside: only a few formats are decoded, told by their
content; nothing that runs other programs (EPS), draws (SVG, WMF) or hides a second decoder; a file's size
and its pixels are limited before a decoder sees them; only regular files are opened.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile

from vla_edge.runtime.errors import ImageError

from .formats import OPENED, check_file_format
from .headers import JpegLayout, check_content, check_jpeg
from .memory import check_memory, check_webp, pixel_bytes, require_memory
from .refusals import SCALE_DOWN, undecodable, unidentified

SMALLEST_SIDE_PX = 8  # less cannot be a camera's frame; it is a place holder or a mistake
LARGEST_SIDE_PX = 16384
MAX_PIXELS = 1 << 26  # 67 megapixels: 256 MiB once decoded
MAX_FILE_BYTES = 5 * MAX_PIXELS  # uncompressed, with alpha, and room for the rest

# Pillow warns of each odd tag: a file of 1 MiB would write 60,000 lines to the log, and their texts are kept.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin$")

# Modes whose conversion to RGB keeps every value; others (16-bit, CMYK, LAB) lose or reinterpret.
_LOSSLESS_MODES = frozenset({"RGB", "L", "1", "P", "RGBA", "LA", "PA"})


def read_image(path: Path) -> Image.Image:
    """An image file, upright as its EXIF says and in RGB; a colour profile is left unused, as in training.

    Raises:
        ImageError: not a regular file, not one of the formats that are read, too large, damaged, of more than
            one frame, or with pixels that RGB of 8 bits cannot hold; names the file.
    """
    try:
        image = _decoded(path)  # by itself, so that the file's content is gone before pixels are turned
        return _upright_rgb(image, str(path), owned=True)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever they like; Pillow's own list is not complete
        raise undecodable(str(path), error) from error


def decode_image(data: bytes, name: str) -> Image.Image:
    """An image file's content, such as a message or a table holds it, as `read_image` would give it.

    Args:
        data: of one image file.
        name: for the error.

    Raises:
        ImageError: as `read_image`.
    """
    try:
        if len(data) > MAX_FILE_BYTES:
            raise ImageError(f"{name} has {len(data)} bytes, at most {MAX_FILE_BYTES} are read.", SCALE_DOWN)
        return _upright_rgb(_decoded_content(data, name), name, owned=True)
    except ImageError:
        raise
    except Exception as error:  # as above
        raise undecodable(name, error) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image as its file would be read: upright as its EXIF says, in RGB, or refused alike.

    Raises:
        ImageError: as `read_image`. One that is loaded already no longer tells that its file had 16 bits.
    """
    try:
        _check(image, "the image")
        image.load()
        return _upright_rgb(image, "the image", owned=False)
    except ImageError:
        raise
    except Exception as error:  # a file is decoded only now, or is closed
        raise undecodable("the image", error) from error


def check_file(path: Path) -> None:
    """Refuse what is no regular file with something in it; its content is not looked at.

    Raises:
        ImageError: as `read_image`.
    """
    _content(path, at_most=1)


def check_image(image: Image.Image) -> None:
    """Refuse a Pillow image by size, format, frames and mode; no pixel is decoded.

    Raises:
        ImageError: as `to_rgb`.
    """
    try:
        _check(image, "the image")
    except ImageError:
        raise
    except Exception as error:  # tags of a file hold whatever they like
        raise undecodable("the image", error) from error


def check_size(width: int, height: int, name: str) -> None:
    """Refuse what is too small or too large for a camera's frame.

    Raises:
        ImageError: names the size.
    """
    if min(width, height) < SMALLEST_SIDE_PX:
        raise ImageError(
            f"{name} is {width}x{height} pixels; a frame has at least {SMALLEST_SIDE_PX} on each side.",
            "Check where it comes from.",
        )
    # A process may have lowered Pillow's own limit; one that lifted it does not lift ours.
    limit = min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
    if width * height > limit or max(width, height) > LARGEST_SIDE_PX:
        raise ImageError(
            f"{name} is refused: {width}x{height} pixels exceed the limit of {limit} pixels, "
            f"{LARGEST_SIDE_PX} on a side.",
            SCALE_DOWN,
        )


def _content(path: Path, at_most: int = MAX_FILE_BYTES) -> bytes:
    """The first `at_most` bytes of a regular file: never a pipe's, which could keep us waiting."""
    try:
        _require_image_sized_file(path, path.stat())  # before any open: opening a device may do something
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            _require_image_sized_file(path, status)  # exchanged in between
            data = file.read(min(at_most, max(status.st_size, 1)))  # as much memory is taken as is asked for
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {reason}.", _GIVE_A_PATH) from error
    except MemoryError as error:
        raise undecodable(str(path), error) from error
    if not data:
        raise ImageError(f"{path} is empty.", "Check what wrote it.")
    return data


_GIVE_A_PATH = "Give the path of an image file."


def _require_image_sized_file(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} cannot be read: Is a directory.", _GIVE_A_PATH)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is a pipe or a device.", _GIVE_A_PATH)
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(
            f"{path} is refused: it has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read.",
            SCALE_DOWN,
        )


_Counted = tuple[JpegLayout | None, int]  # of a file: what it holds as a JPEG, and its bytes


def _check(image: Image.Image, name: str, counted: _Counted | None = None) -> None:
    check_size(image.width, image.height, name)
    if isinstance(image, ImageFile.ImageFile):
        check_file_format(image, name)
        counted = counted or _count(image, name)
    if image.mode not in _LOSSLESS_MODES:
        raise ImageError(
            f"{name} has pixels of mode {image.mode!r}, which do not convert to RGB without loss.",
            "Convert it to 8-bit RGB the way the training frames were.",
        )
    check_memory(image, name, *(counted or (None, 0)))


def _count(image: ImageFile.ImageFile, name: str) -> _Counted:
    """What a JPEG's markers say, and how long the file is, while it is not decoded yet."""
    file = image.fp
    if not image.tile or file is None:
        return None, 0
    place = file.tell()
    try:
        length = file.seek(0, os.SEEK_END)
        if image.format not in ("JPEG", "MPO"):
            return None, length
        file.seek(0)
        return check_jpeg(file.read(MAX_FILE_BYTES), name), length
    finally:
        file.seek(place)


def _decoded(path: Path) -> Image.Image:
    return _decoded_content(_content(path), str(path))


def _decoded_content(data: bytes, name: str) -> Image.Image:
    jpeg = check_content(data, name)
    check_webp(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=OPENED) as image:
            _check(image, name, (jpeg, len(data)))
            image.load()
    except Image.UnidentifiedImageError as error:
        raise unidentified(name, data) from error
    return image


def _upright_rgb(image: Image.Image, name: str, owned: bool) -> Image.Image:
    """A loaded image, turned and in RGB. One that is `owned` is freed as soon as it was copied."""
    method = _TURNS.get(_orientation(image))
    if method is not None:
        require_memory(2 * pixel_bytes(image) * image.width * image.height, name)
        turned = image.transpose(method)
        # without the EXIF that said so: nobody turns it again
        turned.info = {key: image.info[key] for key in ("transparency",) if key in image.info}
        if owned:
            image.close()
        image = turned
    if "A" in image.getbands() or "transparency" in image.info:
        return _without_alpha(image, name)
    return image if image.mode == "RGB" else image.convert("RGB")


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """As its EXIF says; 1, upright, where that cannot be read.

    Pillow raises for a bad EXIF, or not, by what was done to the image before: the bytes themselves are asked.
    """
    try:
        if "exif" in image.info:
            Image.Exif().load(image.info["exif"])
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a tag's content makes Pillow raise
        return 1
    return found if isinstance(found, int) else 1


_STRIP_PIXELS = 1 << 20


def _without_alpha(image: Image.Image, name: str) -> Image.Image:
    """In RGB, or refused; a strip at a time, since a copy with alpha and one without are a lot of memory."""
    opaque = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        lowest: Any = strip.getchannel("A").getextrema()[0]
        if lowest < 255:
            raise ImageError(
                f"{name} is partly transparent (RGBA, mode {image.mode!r}); what shows through is not known.",
                "Lay it over its background and save it as RGB.",
            )
        opaque.paste(strip.convert("RGB"), (0, top))
    return opaque
