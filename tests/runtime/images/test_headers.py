"""A small file cannot keep its decoder busy: scans, segments, chunks and comments are counted before it sees them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import chunk, png
from PIL import Image

from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import check_image, read_image, to_rgb

EXIF = b"\xff\xe1\0\x10Exif\0\0abcdefgh"
ICC = b"\xff\xe2\0\x18ICC_PROFILE\0\1\1" + bytes(8)
MPF = b"\xff\xe2\0\x0eMPF\0" + bytes(8)


def jpeg(side: int = 64, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 128).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan, with its table, comes `count` times more."""
    whole = jpeg(side, progressive=True)
    last = whole[whole.rindex(b"\xff\xc4") : -2]
    return whole[:-2] + last * count + whole[-2:]


def after_the_beginning(inserted: bytes) -> bytes:
    whole = jpeg()
    return whole[:2] + inserted + whole[2:]


BOMBS = {
    "scans": (with_scans(64, 100), "JPEG of more than 100 scans"),
    "scans of many pixels": (with_scans(8000, 20), "more than 1073741824 pixels in all its scans"),
    "EXIF segments": (after_the_beginning(EXIF * 2000), "more than 1000 segments"),
    "EXIF segments after an end": (after_the_beginning(b"\xff\xd9" + EXIF * 2000), "more than 1000 segments"),
    "EXIF segments after one without length": (
        after_the_beginning(b"\xff\xf0\xff\xff" + EXIF * 2000),
        "more than 1000 segments",
    ),
    "long EXIF segments": (
        after_the_beginning((b"\xff\xe1\xff\xffExif\0\0" + bytes(0xFFFF - 8)) * 20),
        "more than 1048576 bytes of EXIF",
    ),
    "colour profiles": (after_the_beginning(ICC * 2000), "more than 1000 segments"),
    "indices of images": (after_the_beginning(MPF * 2000), "more than 1000 segments"),
    "comments": (after_the_beginning(b"\xff\xfe\0\2" * 2000), "more than 1000 segments"),
    "comments of no length": (after_the_beginning(b"\xff\xfe\0\0" * 2000), "more than 1000 segments"),
    "comments behind a scan": (jpeg()[:-2] + b"\xff\xfe\0\2" * 2000 + b"\xff\xd9", "more than 1000 segments"),
    "fill": (after_the_beginning(b"\xff" * 100_000), "more than 4096 bytes of fill in a row"),
    "fill in a scan": (
        jpeg()[:-2] + b"\xff" * 100_000 + b"\xff\xd9",
        "more than 4096 bytes of fill in a row",
    ),
    "fill without an end": (jpeg()[:-2] + b"\xff" * 100_000, "more than 4096 bytes of fill in a row"),
    "junk": (after_the_beginning(bytes(100_000)), "more than 65536 bytes outside of its segments"),
    "junk alone": (b"\xff\xd8\xff" + bytes(100_000), "more than 65536 bytes outside of its segments"),
    "chunks": (
        png(8, 2, bytes(48 * 193), extra=chunk(b"abCd", b"") * 70_000),
        "PNG of more than 65536 chunks",
    ),
    "a PPM's comment": (b"P6\n#" + bytes(10_000), "header does not end within 4096 bytes"),
    "a PGM's comment": (b"P5 64 48 #" + b"x" * 10_000, "header does not end within 4096 bytes"),
    "a comment in a number": (
        b"P5" + b" " * 4082 + b"64 48 255#" + bytes(9999),
        "header does not end within",
    ),
    "spaces": (b"P6 64 48" + b" " * 10_000, "header does not end within 4096 bytes"),
    "values scaled in Python": (b"P5 1000 1000 200\n" + bytes(1_000_000), "whose largest value is not 255"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_would_keep_its_decoder_busy_is_refused(tmp_path: Path, bomb: str) -> None:
    content, words = BOMBS[bomb]
    path = tmp_path / "frame.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError) as raised:
        read_image(path)
    assert raised.value.problem.startswith(f"{path} ")
    assert words in raised.value.problem
    assert raised.value.hint


@pytest.mark.parametrize("check", [to_rgb, check_image])
def test_an_opened_file_is_refused_alike_while_it_is_not_decoded(check: object) -> None:
    with (
        Image.open(io.BytesIO(with_scans(64, 100))) as image,
        pytest.raises(ImageError, match="the image is a JPEG of more than 100 scans"),
    ):
        check(image)


SOUND = {
    "progressive": jpeg(progressive=True),
    "EXIF of 60 KiB": after_the_beginning(b"\xff\xe1\xf0\0Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(0xF000 - 18)),
    "a profile in 255 parts": after_the_beginning(ICC * 255),
    "fill": after_the_beginning(b"\xff" * 1000),
    "restarts": jpeg(side=512, restart_marker_blocks=1),
    "fill in a note": after_the_beginning(b"\xff\xe5\xff\x00" + b"\xff" * 0xFEFE),
    "fill behind it": jpeg() + b"\xff" * 100_000,
    "images behind it": jpeg() + jpeg() * 2000,
}


@pytest.mark.parametrize("kind", SOUND)
def test_what_cameras_and_editors_write_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "frame.jpg"
    path.write_bytes(SOUND[kind])
    assert np.unique(np.asarray(read_image(path))).tolist() == [128]


def test_a_long_ppm_with_a_comment_is_read(tmp_path: Path, frame: np.ndarray) -> None:
    large = np.tile(frame, (4, 4, 1))
    path = tmp_path / "frame.ppm"
    head = f"P6 # written by a camera\n{large.shape[1]} {large.shape[0]}\n255\n".encode()
    path.write_bytes(head + large.tobytes())
    np.testing.assert_array_equal(np.asarray(read_image(path)), large)


def test_what_lies_between_two_segments_is_skipped_as_a_decoder_skips_it(tmp_path: Path) -> None:
    """Else a note of a made-up length would hide scans from the count."""
    scans = with_scans(64, 100)
    start = scans.index(b"\xff\xda")
    hidden = scans[:start] + b"\xff\xfe" + struct.pack(">H", 0) + b"\0\0" + scans[start:]
    path = tmp_path / "frame.jpg"
    path.write_bytes(hidden)
    with pytest.raises(ImageError, match="more than 100 scans"):
        read_image(path)
