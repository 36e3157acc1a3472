"""An image file takes less than 400 MiB, or is refused before it takes any."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.memory import MAX_DECODING_BYTES
from vla_edge.runtime.images.reading import read_image, to_rgb

READ_AND_TELL_MEMORY = """
import pathlib, re, sys
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import read_image
try:
    print(*read_image(pathlib.Path(sys.argv[1])).size, end=" ")
except ImageError as error:
    print(error.problem.split(" is ")[1].split(":")[0], end=" ")
# not getrusage's figure, which begins with the parent's
print(int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) >> 10)
"""
COLOURS = {"L": 1, "P": 1, "LA": (1, 255), "RGB": (1, 2, 3), "RGBA": (1, 2, 3, 255)}


def written(path: Path, mode: str, side: int, form: str, **options: Any) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new(mode, (side, side), COLOURS[mode]).save(path, form, exif=exif, **options)
    return path


@pytest.mark.parametrize(
    ("form", "mode", "side", "options", "said"),
    [
        ("PNG", "RGBA", 8191, {"compress_level": 1}, "refused"),
        ("PNG", "LA", 8191, {"compress_level": 1}, "refused"),
        ("PNG", "RGB", 8191, {"compress_level": 1}, "refused"),
        ("PNG", "P", 8000, {"compress_level": 1, "transparency": 0}, "8000 8000"),
        ("PNG", "RGBA", 6600, {"compress_level": 1}, "6600 6600"),
        ("JPEG", "RGB", 8000, {"progressive": True, "subsampling": 0}, "refused"),
        ("JPEG", "RGB", 5800, {"progressive": True, "subsampling": 0}, "5800 5800"),
        ("WEBP", "RGB", 4600, {"lossless": True, "method": 0, "quality": 0}, "4600 4600"),
        ("WEBP", "RGB", 8000, {"lossless": True, "method": 0, "quality": 0}, "refused"),
        ("TIFF", "RGB", 6600, {"compression": "tiff_deflate"}, "6600 6600"),
    ],
)
def test_a_turned_image_takes_less_than_400_mib(
    tmp_path: Path, form: str, mode: str, side: int, options: dict[str, Any], said: str
) -> None:
    path = written(tmp_path / "frame", mode, side, form, **options)
    command = [sys.executable, "-c", READ_AND_TELL_MEMORY, str(path)]
    *words, taken_mib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert " ".join(words) == said
    assert int(taken_mib) < 400


def test_a_long_webp_counts_with_its_copies(tmp_path: Path) -> None:
    path = tmp_path / "frame.webp"
    Image.new("RGB", (64, 64)).save(path, lossless=True)
    with path.open("r+b") as file:
        file.truncate(200 << 20)
    with pytest.raises(ImageError, match="would take 600 MiB to decode"):
        read_image(path)


def test_the_refusal_says_how_much_it_would_take(tmp_path: Path) -> None:
    path = written(tmp_path / "frame", "RGBA", 8191, "PNG", compress_level=1)
    with pytest.raises(ImageError) as raised:
        read_image(path)
    limit = MAX_DECODING_BYTES >> 20
    assert f"{path} is refused: it would take 511 MiB to decode, at most {limit} MiB" in raised.value.problem
    assert "Scale it down first" in raised.value.hint


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
@pytest.mark.parametrize("opaque", [True, False])
def test_one_transparent_pixel_anywhere_is_found(mode: str, opaque: bool) -> None:
    """In strips: the last pixel of an image of several."""
    image = Image.new("RGBA" if mode == "PA" else mode, (1024, 2100), 0)
    if mode in ("P", "L", "RGB"):
        image.info["transparency"] = (9, 9, 9) if mode == "RGB" else 9
        if mode == "P":
            image.putpalette(bytes(range(30)))
        image.putpixel((1023, 2099), 8 if opaque else 9) if mode != "RGB" else image.putpixel(
            (1023, 2099), (9, 9, 8 if opaque else 9)
        )
    else:
        image.putalpha(255)
        alpha = image.getchannel("A")
        alpha.putpixel((1023, 2099), 255 if opaque else 254)
        image.putalpha(alpha)
    image = image.convert("PA") if mode == "PA" else image
    if opaque:
        np.testing.assert_array_equal(
            np.asarray(to_rgb(image)), np.asarray(image.convert("RGBA").convert("RGB"))
        )
    else:
        with pytest.raises(ImageError, match="partly transparent"):
            to_rgb(image)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbagegarbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0", b"x"]
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_exif_that_cannot_be_read_turns_nothing_whatever_was_done_to_the_image(
    tmp_path: Path, frame: np.ndarray, form: str, exif: bytes
) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(frame).save(buffer, form, exif=exif, **options)
    path = tmp_path / "frame"
    path.write_bytes(buffer.getvalue())
    with Image.open(path) as opened:
        ways = [read_image(path), to_rgb(opened), to_rgb(opened.copy()), to_rgb(opened.convert("RGB"))]
    for image in ways[1:]:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(ways[0]))


def test_an_exif_that_is_no_bytes_turns_nothing(frame: np.ndarray) -> None:
    image = Image.fromarray(frame)
    image.info["exif"] = 3
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), frame)


def test_a_turned_image_is_turned_once(tmp_path: Path) -> None:
    path = written(tmp_path / "frame", "RGB", 64, "PNG")
    once = read_image(path)
    assert to_rgb(once) is once
