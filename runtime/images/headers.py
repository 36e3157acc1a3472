"""Image files looked over before a decoder sees them: what a small file may make it do, again and again.

Decoders follow a file: one more scan, segment or comment is one more round, and some of Pillow's rounds copy
all that came before. A camera's file has a dozen of each, so they are counted here and bounded.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass

from PIL import Image

from vla_edge.runtime.errors import ImageError

MAX_SEGMENTS = 1000  # a JPEG's tables, notes and scans; a colour profile takes at most 255 of them
MAX_SCANS = 100  # a progressive JPEG has 10 as a rule
MAX_SCANNED_PIXELS = 1 << 30  # scans by pixels: about two seconds
MAX_EXIF_BYTES = 1 << 20  # a segment holds 64 KiB, and EXIF is one
MAX_FILL_BYTES = 4096  # FF before a marker; writers have one or two
MAX_STRAY_BYTES = 1 << 16  # between a JPEG's segments, which Pillow reads one by one
MAX_PNG_CHUNKS = 1 << 16  # writers make one of every 8 KiB, or of more
MAX_PPM_HEADER_BYTES = 4096

_SAVE_AGAIN = "Decode it with another program and save it as PNG."

# A code that says nothing else than that bytes follow; FF 00 is data, FF FF a fill, and D0 to D7 and all
# below C0 stand alone. So do JPEG decoders skip what lies between two segments, and so they find a scan's end.
_JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_FILL = b"\xff" * (MAX_FILL_BYTES + 1)
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
# to Pillow, which looks for the first scan
_WITHOUT_LENGTH = frozenset({0xC8, _SOI, _EOI, *range(0xF0, 0xFE)})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass
class JpegLayout:
    """What a walk over a JPEG's markers counts.

    Attributes:
        scans, segments: in all of the file.
        stray_bytes: before the first scan, outside of segments.
        exif_bytes: of all its EXIF segments.
        pixels: of the largest frame that is declared.
        in_rounds: whether the decoder keeps every coefficient until the last scan has come.
    """

    scans: int = 0
    segments: int = 0
    stray_bytes: int = 0
    exif_bytes: int = 0
    pixels: int = 0
    in_rounds: bool = False


def check_content(data: bytes, name: str) -> JpegLayout | None:
    """Refuse a file whose opening or decoding would take seconds more than its size and its pixels tell.

    Returns:
        What was counted of a JPEG.

    Raises:
        ImageError: names the file, and what there is too much of.
    """
    if data.startswith(b"\xff\xd8"):
        return check_jpeg(data, name)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data, name)
    elif re.match(rb"P[0-9fy]", data):
        _check_ppm(data, name)
    return None


def check_jpeg(data: bytes, name: str) -> JpegLayout:
    """Walk over a JPEG's markers as its decoder will, and refuse what has too many.

    Raises:
        ImageError: as `check_content`.
    """
    layout = JpegLayout()
    at = 2
    while (found := _JPEG_MARKER.search(data, at, _furthest(layout, data, at))) is not None:
        marker = found[1][0]
        _check_fill(data, at, found.start(), name)
        if layout.scans and marker in (_SOI, _EOI):  # a decoder reads no further
            return layout
        if not layout.scans:
            layout.stray_bytes += found.start() - at
        at = found.end()
        if layout.scans or marker not in _WITHOUT_LENGTH:
            at += _count_segment(layout, marker, data, at)
        else:
            layout.stray_bytes += 2
        _check_jpeg_counts(layout, name)
    _check_fill(data, at, len(data), name)
    if not layout.scans:
        layout.stray_bytes += max(0, len(data) - at)
        _check_jpeg_counts(layout, name)
    return layout


def _furthest(layout: JpegLayout, data: bytes, at: int) -> int:
    """Where to stop looking for a marker: before the first scan where too much was found between two."""
    return len(data) if layout.scans else at + MAX_STRAY_BYTES + 2


def _check_fill(data: bytes, start: int, end: int, name: str) -> None:
    """libjpeg comes back to where a run of fill begins, whenever it has to ask for more of the file."""
    if data.find(_FILL, start, end) >= 0:
        raise ImageError(
            f"{name} is a JPEG of more than {MAX_FILL_BYTES} bytes of fill in a row, which is not read.",
            _SAVE_AGAIN,
        )


def _count_segment(layout: JpegLayout, marker: int, data: bytes, at: int) -> int:
    """Count a segment; returns its length, of which a decoder skips the two bytes of the length at least."""
    length = max(2, int.from_bytes(data[at : at + 2], "big"))
    layout.segments += 1
    layout.scans += marker == _SOS
    if marker == _APP1 and data.startswith(b"Exif\0\0", at + 2):
        layout.exif_bytes += length
    if marker in _FRAMES and at + 7 <= len(data):
        height, width = struct.unpack_from(">HH", data, at + 3)
        layout.pixels = max(layout.pixels, width * height)
    layout.in_rounds |= marker in _PROGRESSIVE or layout.scans > 1
    return length


def _check_jpeg_counts(layout: JpegLayout, name: str) -> None:
    for count, limit, what in (
        (layout.segments, MAX_SEGMENTS, "segments"),
        (layout.scans, MAX_SCANS, "scans"),
        (layout.exif_bytes, MAX_EXIF_BYTES, "bytes of EXIF"),
        (layout.stray_bytes, MAX_STRAY_BYTES, "bytes outside of its segments"),
        (layout.scans * layout.pixels, MAX_SCANNED_PIXELS, "pixels in all its scans together"),
    ):
        if count > limit:
            raise ImageError(f"{name} is a JPEG of more than {limit} {what}, which is not read.", _SAVE_AGAIN)


def _check_png(data: bytes, name: str) -> None:
    at = 8
    for _ in range(MAX_PNG_CHUNKS):
        if at + 12 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise ImageError(f"{name} is a PNG of more than {MAX_PNG_CHUNKS} chunks, which is not read.", _SAVE_AGAIN)


def _check_ppm(data: bytes, name: str) -> None:
    """A comment in a header may be as long as the file, and Pillow reads it byte by byte: it gets the first 4 KiB."""
    if len(data) <= MAX_PPM_HEADER_BYTES:
        return
    try:
        with Image.open(io.BytesIO(data[:MAX_PPM_HEADER_BYTES]), formats=("PPM",)) as image:
            ends = max((tile[2] for tile in image.tile), default=0) < MAX_PPM_HEADER_BYTES
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # its header has ended then
        return
    except (Image.UnidentifiedImageError, ValueError):
        ends = False
    if not ends:
        raise ImageError(
            f"{name} begins like a PPM or PGM, but its header does not end within {MAX_PPM_HEADER_BYTES} bytes.",
            "It is damaged, or no image.",
        )
