"""How much memory an image file takes at the worst while it is decoded, told before any is taken."""

from __future__ import annotations

from PIL import Image, ImageFile

from vla_edge.runtime.errors import ImageError

from .headers import JpegLayout
from .refusals import SCALE_DOWN

MAX_DECODING_BYTES = 340 << 20  # file, decoder and pixels together

# Pillow keeps every mode of more than one channel in four bytes a pixel.
_ONE_BYTE = frozenset({"1", "L", "P"})
_RGB_BYTES = 4
_WEBP_BYTES = 12  # its library's two canvases, and the frame as it is handed over
_WEBP_COPIES = 3  # of the file: ours, Pillow's and its library's
_STRIP_BYTES = 4  # a TIFF may be a single strip, which libtiff unpacks whole
_COEFFICIENT_BYTES = 2


def check_memory(image: Image.Image, name: str, jpeg: JpegLayout | None, file_bytes: int) -> None:
    """Refuse an image that could not be decoded, laid out as RGB, in `MAX_DECODING_BYTES`.

    Args:
        image: its pixels are not decoded yet, or it came so.
        name: for the error.
        jpeg: what is known of a JPEG's markers.
        file_bytes: what its file takes meanwhile.

    Raises:
        ImageError: says how much it would take.
    """
    stored, decoding = pixel_bytes(image), 0.0
    if isinstance(image, ImageFile.ImageFile) and image.tile:
        decoding = stored + _decoder_bytes(image, jpeg)
    as_rgb = stored + (0 if image.mode == "RGB" and "transparency" not in image.info else _RGB_BYTES)
    pixels = image.width * image.height
    require_memory(max(file_bytes + int(decoding * pixels), as_rgb * pixels), name)


def check_webp(data: bytes, name: str) -> None:
    """Refuse a WebP by the canvas that its first chunk asks for: its library takes that as soon as it is opened.

    Raises:
        ImageError: says how much it would take.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    require_memory(_WEBP_COPIES * len(data) + (_RGB_BYTES + _WEBP_BYTES) * width * height, name)


def require_memory(needed: int, name: str) -> None:
    """Refuse what takes more than `MAX_DECODING_BYTES`.

    Raises:
        ImageError: says how much it would take.
    """
    if needed > MAX_DECODING_BYTES:
        raise ImageError(
            f"{name} is refused: it would take {needed >> 20} MiB to decode, at most "
            f"{MAX_DECODING_BYTES >> 20} MiB are taken.",
            SCALE_DOWN,
        )


def pixel_bytes(image: Image.Image) -> int:
    """What Pillow keeps a pixel in."""
    return 1 if image.mode in _ONE_BYTE else _RGB_BYTES


def _decoder_bytes(image: ImageFile.ImageFile, jpeg: JpegLayout | None) -> float:
    """A pixel, beside the decoded image."""
    if image.format == "WEBP":
        return _WEBP_BYTES
    if any(tile[0] == "libtiff" for tile in image.tile):
        return _STRIP_BYTES
    if jpeg is None or not jpeg.in_rounds:
        return 0
    sampling = [(layer[1], layer[2]) for layer in getattr(image, "layer", ())]
    whole = max((across for across, _ in sampling), default=1) * max(
        (down for _, down in sampling), default=1
    )
    return _COEFFICIENT_BYTES * sum(across * down for across, down in sampling) / max(whole, 1)
