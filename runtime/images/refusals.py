"""Why an image file was not read, in words: what it is instead, or what went wrong while it was decoded."""

from __future__ import annotations

import re

from PIL import Image

from vla_edge.runtime.errors import ImageError

READ_ARE = (
    "Read are JPEG, PNG, BMP, TIFF, WebP, PPM and PGM; convert others the way the training frames were."
)
SCALE_DOWN = "Scale it down first; a camera's frame is not that large."

_DAMAGED_OR_RARE = (
    "It is damaged, truncated, or of a rare kind (12 bits, lossless JPEG): save it as 8-bit RGB."
)

_READ = (
    (rb"\xff\xd8\xff", "a JPEG"),
    (rb"\x89PNG\r\n", "a PNG"),
    (rb"BM", "a BMP"),
    (rb"(?:II|MM\x00)[*+]", "a TIFF"),
    (rb"RIFF....WEBP", "a WebP"),
    (rb"P[1-6]\s", "a PPM or PGM"),
)
_NOT_READ = (
    (rb"GIF8[79]a", "a GIF"),
    (rb"....ftyp(?:hei|hev|mif|msf)", "a HEIF image (HEIC)"),
    (rb"....ftypavi[fs]", "an AVIF image"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL image"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript program"),
    (rb"%PDF-", "a PDF"),
    (rb"8BPS", "a Photoshop image"),
    (rb"DDS ", "a DDS texture"),
    (rb"BLP[12]", "a BLP texture"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\s*<(?:svg|\?xml)", "an SVG or XML text"),
    (rb"\s*<(?:!doctype|!DOCTYPE|html)", "an HTML page"),
)
_VIDEO = rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI "
_LFS_POINTER = rb"version https://git-lfs"


def unidentified(path: str, data: bytes) -> ImageError:
    """Why none of the decoders took a file, told by how it begins."""

    def begins(pattern: bytes) -> bool:
        return re.match(pattern, data[:64], re.DOTALL) is not None

    for pattern, kind in _READ:
        if begins(pattern):
            return ImageError(f"{path} begins like {kind}, but cannot be decoded.", _DAMAGED_OR_RARE)
    for pattern, kind in _NOT_READ:
        if begins(pattern):
            return ImageError(f"{path} is {kind}, which is not read.", READ_ARE)
    if begins(_VIDEO):
        return ImageError(f"{path} is a video.", f"Split it into frames: ffmpeg -i {path} frames/%05d.png")
    if begins(_LFS_POINTER):
        return ImageError(f"{path} is a Git LFS pointer: the image was not fetched.", "Run git lfs pull.")
    return ImageError(f"{path} is not an image.", READ_ARE)


def undecodable(name: str, error: BaseException) -> ImageError:
    """Damage, a bomb, or a machine without memory: a sound image is not called damaged then."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageError(f"{name} is refused: {error}", SCALE_DOWN)
    # Pillow's codecs say "out of memory", libtiff's only the number that stands for it.
    if isinstance(error, MemoryError) or "memory" in str(error) or str(error) == "decoder error -9":
        return ImageError(
            f"there is not enough memory to decode {name}.", "Free some, or scale the image down first."
        )
    # WebP's library says only that it failed
    hint = "It is damaged or truncated, or too large for the memory that is free."
    if "decoder object" not in str(error):
        hint = "It is damaged or truncated."
    reason = str(error).rstrip(".") or type(error).__name__
    return ImageError(f"{name} cannot be decoded: {reason}.", hint)
