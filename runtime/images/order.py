"""Which files of a folder are frames, and in which order they were taken: one answer for every command."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from vla_edge.runtime.errors import InputError

# What `images.py` decodes, by the names that such files have.
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order.

    Told by their suffix. Hidden ones are left out, macOS's `._0.png` among them; folders inside are not
    entered. A dangling link or a pipe with such a name stays in: who reads it refuses it by name, since a
    frame that is missing from a sequence must not pass unseen.

    Raises:
        InputError: the folder cannot be listed, or holds no image.
    """
    try:
        children = list(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed: {error.strerror}.", "Give a folder of images."
        ) from error
    images = [child for child in children if _is_image(child)]
    if not images:
        raise InputError(f"{folder} holds no images.", f"Known are {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return sorted(images, key=natural_order)


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def natural_order(path: Path) -> tuple[Any, ...]:
    """A sort key for file names as people count: frame2 before frame10, frame before frame1.

    Digits 0 to 9 count as numbers of any length, other scripts' are text. Capitals and Unicode's composed
    and decomposed forms are the same; names that are equal so far are told apart by their characters.
    """
    return (*map(_natural, (path.stem, path.suffix)), path.name)


def _natural(text: str) -> tuple[Any, ...]:
    """Text and numbers in turn, so that like is compared with like; numbers by length, then digits."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", text).casefold())
    bare = [part.lstrip("0") if at % 2 else part for at, part in enumerate(parts)]
    return tuple((len(part), part) if at % 2 else part for at, part in enumerate(bare))
