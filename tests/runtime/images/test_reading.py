"""Image files come from outside: few formats, bounded cost, every failure an ImageError that names the file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import HEIGHT, WIDTH, chunk, exif_of_many_tags, png, run_length_bmp, tiff
from PIL import Image, ImageFile

from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.images.reading import MAX_FILE_BYTES, check_file, read_image, to_rgb
from vla_edge.runtime.printable import printable

ORIENTATION = 0x0112
BLACK_ROWS = bytes(HEIGHT * (1 + 3 * WIDTH))
Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def refusal(path: Path) -> ImageError:
    with pytest.raises(ImageError) as raised:
        read_image(path)
    assert printable(str(path)) in raised.value.problem
    assert raised.value.hint
    return raised.value


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


# --- which formats


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_the_formats_of_cameras_and_recorders_are_read_whatever_their_name(
    write: Write, frame: np.ndarray, form: str
) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    path = write("frame.jpg", saved(Image.fromarray(frame), form, **options))
    np.testing.assert_array_equal(pixels(read_image(path)), frame)


def test_a_jpeg_is_read_as_pillow_reads_it(write: Write, frame: np.ndarray) -> None:
    path = write("frame.png", saved(Image.fromarray(frame), "JPEG"))
    np.testing.assert_array_equal(pixels(read_image(path)), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("EPS", "is a PostScript program, which is not read"),
        ("GIF", "is a GIF, which is not read"),
        ("JPEG2000", "is a JPEG 2000 image"),
        ("DDS", "is a DDS texture"),
        ("PDF", "is a PDF"),
        ("TGA", "is not an image"),
        ("PCX", "is not an image"),
        ("SGI", "is not an image"),
        ("ICO", "is not an image"),
        ("QOI", "is not an image"),
    ],
)
def test_other_formats_are_refused_by_name_whatever_their_suffix(
    write: Write, frame: np.ndarray, form: str, kind: str
) -> None:
    error = refusal(write("frame.jpg", saved(Image.fromarray(frame), form)))
    assert f"frame.jpg {kind}" in error.problem
    assert "Read are JPEG, PNG, BMP, TIFF, WebP, PPM and PGM" in error.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x20ftypheic\0\0\0\0", "is a HEIF image"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "is a video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "is a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"DDS |" + b"\xff" * 123, "is a DDS texture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "begins like a PNG, but cannot be decoded"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "begins like a JPEG, but cannot be decoded"),
        (b"II*\0" + b"\xff" * 50, "begins like a TIFF, but cannot be decoded"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "cannot be decoded"),
        (b"BM" + bytes(60), "cannot be decoded"),
        (b"P6 64", "cannot be decoded"),
        (b"\0", "is not an image"),
    ],
)
def test_wrong_beginnings_are_told_apart(write: Write, content: bytes, words: str) -> None:
    assert words in refusal(write("frame.png", content)).problem


def test_ghostscript_and_pillows_other_decoders_are_never_loaded(write: Write, frame: np.ndarray) -> None:
    path = write("frame.jpg", saved(Image.fromarray(frame), "EPS"))
    code = (
        "import sys; from pathlib import Path; from vla_edge.runtime.images.reading import read_image\n"
        f"try: read_image(Path({str(path)!r}))\n"
        "except Exception as error: print(type(error).__name__, *sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raised, *modules = done.stdout.split()
    assert raised == "ImageError"
    assert not {"PIL.EpsImagePlugin", "PIL.WmfImagePlugin", "PIL.Jpeg2KImagePlugin"} & set(modules)


# --- which pixels


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_a_channel_is_refused(write: Write, colour: int, channels: int) -> None:
    twelve_bits_in_sixteen = (b"\0" + b"\x0f\xff" * channels * WIDTH) * HEIGHT
    error = refusal(write("deep.png", png(16, colour, twelve_bits_in_sixteen)))
    assert "deep.png has 16 bits a channel (mode " in error.problem


@pytest.mark.parametrize(
    ("content", "bits"),
    [
        (tiff(16, 3, 2), 16),
        (tiff(16, 1, 1), 16),
        (tiff(16, 3, 2, compression=8), 16),
        (b"P6 64 48 65535\n" + bytes(WIDTH * HEIGHT * 6), 16),
        (b"P6 64 48 4095\n" + bytes(WIDTH * HEIGHT * 6), 12),
        (b"P5 64 48 1023\n" + bytes(WIDTH * HEIGHT * 2), 10),
        (b"Pf 64 48 -1.0\n" + bytes(WIDTH * HEIGHT * 4), 32),
    ],
    ids=["tiff-rgb", "tiff-grey", "tiff-deflate", "ppm-16", "ppm-12", "pgm-10", "pfm"],
)
def test_more_than_8_bits_are_refused_in_every_format(write: Write, content: bytes, bits: int) -> None:
    assert f"has {bits} bits a channel" in refusal(write("deep", content)).problem


def test_a_pillow_image_of_16_bits_is_refused_as_its_file_is(write: Write) -> None:
    for name, content in (("a.png", png(16, 2, bytes(HEIGHT * (1 + 6 * WIDTH)))), ("a.tif", tiff(16, 3, 2))):
        with Image.open(write(name, content)) as image, pytest.raises(ImageError, match="16 bits a channel"):
            to_rgb(image)


@pytest.mark.parametrize(
    ("content", "mode"),
    [(tiff(8, 4, 5), "CMYK"), (tiff(8, 3, 8), "LAB"), (saved(Image.new("CMYK", (64, 48)), "JPEG"), "CMYK")],
)
def test_other_colour_spaces_are_refused_by_name(write: Write, content: bytes, mode: str) -> None:
    assert f"has pixels of mode {mode!r}" in refusal(write("print", content)).problem


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_spread_over_the_whole_range(write: Write, bits: int) -> None:
    white = (b"\0" + b"\xff" * (WIDTH * bits // 8)) * HEIGHT
    assert (pixels(read_image(write("grey.png", png(bits, 0, white)))) == 255).all()


def test_a_small_largest_value_of_a_ppm_is_spread_over_the_whole_range(write: Write) -> None:
    path = write("small.ppm", b"P6 64 48 15\n" + b"\x0f" * (WIDTH * HEIGHT * 3))
    assert (pixels(read_image(path)) == 255).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_file_of_several_images_is_refused(write: Write, frame: np.ndarray, form: str) -> None:
    first, second = Image.fromarray(frame), Image.fromarray(255 - frame)
    path = write("many", saved(first, form, save_all=True, append_images=[second]))
    assert "holds more than one image" in refusal(path).problem


def test_of_a_jpeg_with_a_preview_behind_it_the_first_image_is_read(write: Write, frame: np.ndarray) -> None:
    first, second = Image.fromarray(frame), Image.fromarray(255 - frame)
    path = write("phone.jpg", saved(first, "MPO", save_all=True, append_images=[second]))
    np.testing.assert_array_equal(pixels(read_image(path)), np.asarray(Image.open(path)))


# --- a file and the Pillow image opened from it


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_pillow_image_is_turned_as_its_file_is(
    write: Write, frame: np.ndarray, form: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = write("turned", saved(Image.fromarray(frame), form, exif=exif))
    wanted = pixels(read_image(path))
    assert wanted.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels(to_rgb(image)), wanted)
        np.testing.assert_array_equal(pixels(to_rgb(image)), wanted)  # and the image is as it was
        np.testing.assert_array_equal(pixels(to_rgb(image.convert("RGB"))), wanted)


def test_a_turned_tiff_is_turned_once(write: Write) -> None:
    path = write("turned.tif", tiff(8, 3, 2, orientation=6))
    assert read_image(path).size == (48, 64)
    with Image.open(path) as image:
        assert to_rgb(image).size == (48, 64)
        assert to_rgb(image).size == (48, 64)


def test_a_profile_of_colours_changes_nothing(write: Write, frame: np.ndarray) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = write("profile.png", saved(Image.fromarray(frame), "PNG", icc_profile=profile))
    np.testing.assert_array_equal(pixels(read_image(path)), frame)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels(to_rgb(image)), frame)


@pytest.mark.parametrize("form", ["GIF", "DDS", "TGA"])
def test_a_pillow_image_of_another_format_is_refused_as_its_file_is(
    write: Write, frame: np.ndarray, form: str
) -> None:
    path = write("other", saved(Image.fromarray(frame), form))
    with (
        Image.open(path) as image,
        pytest.raises(ImageError, match=f"of the format {form}, which is not read"),
    ):
        to_rgb(image)


def test_a_pillow_image_that_cannot_be_decoded_any_more_is_an_image_error(
    write: Write, frame: np.ndarray
) -> None:
    cut = write("cut.png", saved(Image.fromarray(frame), "PNG")[:-3000])
    with Image.open(cut) as image, pytest.raises(ImageError, match="the image cannot be decoded: "):
        to_rgb(image)
    with Image.open(write("closed.png", saved(Image.fromarray(frame), "PNG"))) as image:
        pass
    with pytest.raises(ImageError, match="the image cannot be decoded: "):
        to_rgb(image)


def test_nothing_is_read_while_pillow_fills_up_truncated_files(
    write: Write, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("frame.jpg", saved(Image.fromarray(frame), "JPEG"))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert "LOAD_TRUNCATED_IMAGES = False" in refusal(path).hint


# --- what a file may cost


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    device = tmp_path / "device.png"
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        assert refusal(path).problem == f"{path} is a pipe or a device."
        with pytest.raises(ImageError, match="is a pipe or a device"):
            check_file(path)


def test_a_link_to_an_image_is_followed(write: Write, tmp_path: Path, frame: np.ndarray) -> None:
    link = tmp_path / "latest.png"
    link.symlink_to(write("frame.png", saved(Image.fromarray(frame), "PNG")))
    np.testing.assert_array_equal(pixels(read_image(link)), frame)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(900 << 30)
    assert f"it has {900 << 30} bytes, at most {MAX_FILE_BYTES} are read" in refusal(path).problem


def test_a_name_that_no_file_can_have_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="cannot be read: embedded null byte"):
        read_image(Path("a\0b.png"))
    assert "cannot be read: File name too long" in refusal(Path("a" * 5000)).problem


@pytest.mark.parametrize("size", [(16000, 16000), (9000, 9000), (60_000_000, 8), (20_000, 3000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_many_pixels_is_refused(write: Write, size: tuple[int, int]) -> None:
    error = refusal(write("bomb.png", png(8, 2, b"", size=size)))
    assert "is refused: " in error.problem
    assert "Scale it down first" in error.hint


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_where_warnings_are_errors_a_bomb_is_an_image_error_too(write: Write) -> None:
    assert "is refused: " in refusal(write("bomb.png", png(8, 2, b"", size=(10_000, 10_000)))).problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(8, 2, BLACK_ROWS, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60 << 20)))), "too large"),
        (png(8, 2, BLACK_ROWS, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60 << 20)))), "too large"),
        (run_length_bmp(16384, 4000), "is a run-length encoded BMP"),
        (b"P3 8192 8192 255\n" + b"1 " * 1000, "is a PPM or PGM written as text"),
        (tiff(8, 3, 2, compression=8, tile_width=16000, tile_height=16000), "tiles of more than 2048 pixels"),
        (
            b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\x3f\0\xff\x3f\0VP8L" + bytes(9),
            "would take 4096 MiB to decode",
        ),
    ],
    ids=["png-text", "png-profile", "bmp", "ppm", "tiff", "webp"],
)
def test_a_small_file_that_would_cost_seconds_or_hundreds_of_mib_is_refused(
    write: Write, content: bytes, words: str
) -> None:
    assert words in refusal(write("bomb", content)).problem


def test_a_file_of_odd_tags_does_not_flood_the_log(write: Write) -> None:
    path = write("tags.png", png(8, 2, BLACK_ROWS, extra=chunk(b"eXIf", exif_of_many_tags(20_000))))
    code = "from pathlib import Path; from vla_edge.runtime.images.reading import read_image; "
    code += f"read_image(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_a_sound_image_is_not_called_damaged_where_memory_is_short(write: Write, form: str) -> None:
    path = write("large", saved(Image.new("RGB", (6000, 4000)), form))
    code = f"""
import resource
from pathlib import Path
from vla_edge.runtime.images.reading import read_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (80 << 20), -1))
try:
    read_image(Path({str(path)!r}))
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"ImageError there is not enough memory to decode {path}.")


class _Odd(Image.Image):
    """Stands for a decoder that raises what nobody listed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self._mode, self._size = "RGB", (64, 48)

    def load(self) -> Any:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("odd"), NotImplementedError("odd"), zlib.error("odd"), SyntaxError("odd"), KeyError("odd")],
)
def test_whatever_a_decoder_raises_is_an_image_error(error: Exception) -> None:
    with pytest.raises(ImageError, match=r"the image cannot be decoded: '?odd'?\."):
        to_rgb(_Odd(error))
