"""The formats of recordings, told by how a file begins and by what a folder holds."""

from __future__ import annotations

import enum
import re
from pathlib import Path

from vla_edge.runtime.images.order import IMAGE_SUFFIXES

LEROBOT_INFO = Path("meta", "info.json")
BAG_METADATA = "metadata.yaml"
ACTIONS_NAME = "actions.csv"  # in a folder of images
BAG_SUFFIXES = (".mcap", ".db3")

_HEAD_BYTES = 64
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# HDF5 leaves room for a block of the user's own before its first byte
_USER_BLOCKS = (0, 512, 1024, 2048, 4096)


class Kind(enum.Enum):
    """A format: what people call it, and the packages that read it by their import names."""

    HDF5 = ("HDF5 (*.h5, one an episode)", ("h5py",))
    LEROBOT = ("LeRobot (a folder with meta/info.json)", ("av", "pyarrow"))
    BAG = ("ROS 2 bags (*.mcap, *.db3, or their folder)", ("mcap",))
    VIDEO = ("video (MP4, MOV, Matroska, WebM, AVI)", ("av",))
    IMAGES = ("folders of images", ())

    def __init__(self, label: str, packages: tuple[str, ...]) -> None:
        self.label, self.packages = label, packages


# Names that promise a recording.
SUFFIXES = {
    ".h5": Kind.HDF5,
    ".hdf5": Kind.HDF5,
    ".mcap": Kind.BAG,
    ".db3": Kind.BAG,
    **dict.fromkeys((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"), Kind.VIDEO),
}

# FFmpeg's names of containers that hold their frames themselves, by how they begin.
_VIDEO_FORMATS = (
    (rb"....(?:ftyp|moov|mdat|wide|free)", "mov"),
    (rb"\x1a\x45\xdf\xa3", "matroska"),
    (rb"RIFF....AVI ", "avi"),
)
_IMAGES_IN_MP4 = rb"....ftyp(?:hei|hev|mif|msf|avi[fs])"  # a photograph: HEIF, AVIF
_BEGINNINGS = (
    (rb"\x89MCAP0\r\n", Kind.BAG),
    (rb"SQLite format 3\0", Kind.BAG),
)


def kind_of_file(path: Path) -> Kind | None:
    """The format of a file by its first bytes; None for any other, and for what is no regular file."""
    head = _begins(path)
    if head is None:
        return None
    if any(_begins(path, start, len(_HDF5_MAGIC)) == _HDF5_MAGIC for start in _USER_BLOCKS):
        return Kind.HDF5
    if _format_of(head) is not None:
        return Kind.VIDEO
    return next((kind for pattern, kind in _BEGINNINGS if re.match(pattern, head, re.DOTALL)), None)


def video_format(path: Path) -> str | None:
    """FFmpeg's name of a video file's container; None for what is none that is read."""
    return _format_of(_begins(path) or b"")


def kind_of_folder(path: Path) -> Kind | None:
    """What a folder is as a whole; None for one that may hold recordings as files."""
    try:
        if (path / LEROBOT_INFO).is_file():
            return Kind.LEROBOT
        if (path / BAG_METADATA).is_file() and any(map(_is_of_bag, path.iterdir())):
            return Kind.BAG
    except OSError:  # a folder that may not be searched: who opens it says why
        pass
    return None


def holds_images(path: Path) -> bool:
    """Whether there are files in a folder that are called as images are."""
    try:
        return any(
            child.suffix.lower() in IMAGE_SUFFIXES and not child.name.startswith(".")
            for child in path.iterdir()
        )
    except OSError:  # who opens it says why
        return False


def _is_of_bag(path: Path) -> bool:
    """Whether a file is called as a bag's are, also where it is packed as a whole."""
    return path.suffix in BAG_SUFFIXES or Path(path.stem).suffix in BAG_SUFFIXES


def _format_of(head: bytes) -> str | None:
    if re.match(_IMAGES_IN_MP4, head, re.DOTALL):
        return None
    found = (name for pattern, name in _VIDEO_FORMATS if re.match(pattern, head, re.DOTALL))
    return next(found, None)


def _begins(path: Path, start: int = 0, length: int = _HEAD_BYTES) -> bytes | None:
    """Some bytes of a regular file; None of anything else."""
    try:
        if not path.is_file():  # before any open: a pipe could keep us waiting
            return None
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)
    except (OSError, ValueError):  # who opens it says why
        return None
