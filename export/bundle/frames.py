"""Frames for golden samples: photographs that come with the package, and patterns that are easy to break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from vla_edge.runtime.bundle.manifest import Preprocessing
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.images.order import images_in
from vla_edge.runtime.images.reading import read_image
from vla_edge.runtime.preprocess import Preprocessor

PATTERN_SEED = 7
CAMERA = (360, 640)  # height, width of the patterns
FEWEST = 8  # fewer would not show how an error varies


@dataclass(frozen=True)
class Frame:
    """A named image: uint8 RGB [H, W, 3], or the file that the runtime's preprocessing is to read."""

    name: str
    image: np.ndarray | Path


@dataclass(frozen=True, eq=False)
class GoldenFrames:
    """The frames of golden samples, as an engine takes them.

    Attributes:
        names: of the N samples.
        pixels: float32 [N, 3, H, W].
        before: float32 [k, 3, H, W] for each sample, the frames just before it, where state is carried from them:
            k is 0 for an episode's first. Empty where samples follow no others.
        instructions: what was to be done in each, None where nobody told. Empty where the instructions take turns.
        origin: where they are from, for the manifest; "" of the packaged ones, and of a folder of images.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    before: tuple[np.ndarray, ...] = ()
    instructions: tuple[str | None, ...] = ()
    origin: str = ""


def golden_frames(folder: Path | None = None) -> tuple[Frame, ...]:
    """The packaged photographs and patterns, or the images of a folder of the user's own, in natural order.

    Raises:
        InputError: the folder cannot be listed, or holds fewer than eight images.
    """
    if folder is None:
        return (*_photographs(), *_patterns())
    paths = images_in(folder)
    if len(paths) < FEWEST:
        raise InputError(
            f"{folder} holds {len(paths)} images; golden samples need at least eight different ones.",
            "Add frames from the robot's camera.",
        )
    return tuple(Frame(path.name, path) for path in paths)


def image_frames(folder: Path | None, spec: Preprocessing) -> GoldenFrames:
    """What `golden_frames` gives, as an engine takes it. Raises as that and `preprocess`."""
    frames = golden_frames(folder)
    return GoldenFrames(tuple(frame.name for frame in frames), preprocess(frames, spec))


def preprocess(frames: Sequence[Frame], spec: Preprocessing) -> np.ndarray:
    """All frames as the runtime will see them: float32 [N, 3, H, W].

    Raises:
        ImageError: a file is broken, or holds what is refused on the robot too; names it.
    """
    out = np.empty((len(frames), 3, spec.height, spec.width), np.float32)
    preprocessor = Preprocessor(spec)
    for at, frame in enumerate(frames):
        preprocessor(frame.image, out[at])
    return out


def _photographs() -> Iterator[Frame]:
    folder = resources.files("vla_edge.export.images")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".jpg"):
            with resources.as_file(entry) as path:
                yield Frame(entry.name, np.asarray(read_image(path)))


def _patterns() -> Iterator[Frame]:
    """Extremes of a camera: noise, a lens cap, glare, a ramp, sharp edges."""
    rng = np.random.default_rng(PATTERN_SEED)
    height, width = CAMERA
    rows, columns = np.mgrid[0:height, 0:width]
    yield Frame("noise", rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    yield Frame("dark", rng.integers(0, 12, (height, width, 3), dtype=np.uint8))
    yield Frame("glare", np.full((height, width, 3), 255, np.uint8))
    ramp = np.stack([columns * 255 // width, rows * 255 // height, 255 - columns * 255 // width], axis=-1)
    yield Frame("ramp", ramp.astype(np.uint8))
    board = ((rows // 24 + columns // 24) % 2 * 255).astype(np.uint8)
    yield Frame("board", np.repeat(board[..., None], 3, axis=2))
