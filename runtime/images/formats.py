"""The formats of image files that are read, and what of a file only its format tells."""

from __future__ import annotations

import re

from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vla_edge.runtime.errors import ImageError

from .refusals import READ_ARE

# Imported above, so that Pillow finds them without loading its forty others. An MPO is a JPEG with more
# images behind it (a phone's preview, a stereo camera's right eye); the first is what every JPEG reader shows.
PLUGINS = {
    "JPEG": JpegImagePlugin,
    "MPO": MpoImagePlugin,
    "PNG": PngImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
    "WEBP": WebPImagePlugin,
    "PPM": PpmImagePlugin,
}
OPENED = tuple(name for name in PLUGINS if name != "MPO" and name in Image.OPEN)

# Decoders that Pillow has in Python only: a file of some KiB would keep a robot waiting for seconds.
_SLOW_CODECS = {"bmp_rle": "a run-length encoded BMP", "ppm_plain": "a PPM or PGM written as text"}
_MOST_IN_PYTHON_PX = 1 << 19  # half a second
_LARGEST_TILE_PX = 2048  # usual are 256; libtiff allocates one whole, however small the image
_TILE_SIDES = (322, 323)  # TIFF's tags
_BITS_PER_SAMPLE = 258
_RAW_BITS = re.compile(r";(12|16|24|32)[BLNSF]+$")  # a BMP's "BGR;16" are all channels together


def check_file_format(image: ImageFile.ImageFile, name: str) -> None:
    """What only the file tells: its format, how many images it holds, what decoding costs, its bits a channel.

    Raises:
        ImageError: it is not read; names the file.
    """
    if image.format not in PLUGINS:
        raise ImageError(f"{name} is of the format {image.format}, which is not read.", READ_ARE)
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError(
            f"{name} holds more than one image; which one is meant is not known.",
            "Save the one that is meant, or each as a file of its own.",
        )
    _check_cost(image, name)
    bits = _bits_a_channel(image)
    if bits > 8:
        raise ImageError(
            f"{name} has {bits} bits a channel (mode {image.mode!r}), which do not convert to RGB without loss.",
            "Convert it to 8-bit RGB the way the training frames were.",
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageError(
            f"{name} is not read while Pillow is told to fill up truncated files with made-up pixels.",
            "Set PIL.ImageFile.LOAD_TRUNCATED_IMAGES = False, its default.",
        )


def _check_cost(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse a small file whose decoding takes seconds or hundreds of MiB."""
    for tile in image.tile:
        if tile[0] in _SLOW_CODECS:
            raise ImageError(f"{name} is {_SLOW_CODECS[tile[0]]}, which is not read.", "Save it as PNG.")
        if (
            tile[0] == "ppm"
            and image.width * image.height > _MOST_IN_PYTHON_PX
            and _bits_a_channel(image) <= 8
        ):
            raise ImageError(
                f"{name} is a PPM or PGM of more than {_MOST_IN_PYTHON_PX} pixels whose largest value is not 255.",
                "Save it as PNG.",
            )
    tags = getattr(image, "tag_v2", {})
    if any(int(tags.get(tag, 0)) > _LARGEST_TILE_PX for tag in _TILE_SIDES):
        raise ImageError(
            f"{name} is a TIFF with tiles of more than {_LARGEST_TILE_PX} pixels a side.", "Save it as PNG."
        )


def _bits_a_channel(image: ImageFile.ImageFile) -> int:
    """More than 8 where Pillow would cut RGB samples to 8 bits without a word.

    A TIFF's tags tell, and of PNG and PPM the raw mode that their decoder is asked for, such as "RGB;16B".
    """
    tags = getattr(image, "tag_v2", {})
    bits = max((int(value) for value in tags.get(_BITS_PER_SAMPLE, ())), default=0)
    for tile in image.tile:
        codec, args = tile[0], tile[3] or ()
        if codec == "ppm":  # (raw mode, largest value)
            bits = max(bits, int(args[1]).bit_length())
        else:
            raw = args if isinstance(args, str) else str(next(iter(args), ""))
            found = _RAW_BITS.search(raw)
            bits = max(bits, int(found[1]) if found else 0)
    return bits
