"""Frames for golden samples: photographs that come with the package, and patterns that are easy to break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from vla_edge.runtime.bundle.golden import MAX_GOLDEN_BYTES
from vla_edge.runtime.bundle.manifest import Camera, Preprocessing
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.images.order import images_in
from vla_edge.runtime.images.reading import read_image
from vla_edge.runtime.preprocess import FILTERS, Preprocessor

PATTERN_SEED = 7
PATTERN_SIZE = (360, 640)  # height, width
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
        frames: uint8 [N, height, width, 3], as the camera gives them, of which Pillow made the pixels; None without
            a camera.
        resized: a name and size of what the user gave in another size than the camera's; "" where nothing was.
    """

    names: tuple[str, ...]
    pixels: np.ndarray
    before: tuple[np.ndarray, ...] = ()
    instructions: tuple[str | None, ...] = ()
    origin: str = ""
    frames: np.ndarray | None = None
    resized: str = ""


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


def image_frames(folder: Path | None, spec: Preprocessing, camera: Camera | None = None) -> GoldenFrames:
    """What `golden_frames` gives, as an engine takes it. Raises as that, `require_room` and `Taken.add`."""
    frames = golden_frames(folder)
    require_room(len(frames), camera)
    taken = Taken(len(frames), spec, camera)
    for frame in frames:
        taken.add(frame)
    return GoldenFrames(
        names=tuple(frame.name for frame in frames),
        pixels=taken.pixels,
        frames=taken.frames,
        resized=taken.resized if folder else "",
    )


def require_room(count: int, camera: Camera | None) -> None:
    """Refuse more frames than a bundle holds, before they are read.

    Raises:
        InputError: says how many bytes they take.
    """
    size_bytes = count * camera.frame_bytes if camera else 0
    if camera and size_bytes > MAX_GOLDEN_BYTES // 2:
        raise InputError(
            f"{count} frames of {camera.width} by {camera.height} pixels take {size_bytes} bytes, the frames of a "
            f"bundle at most {MAX_GOLDEN_BYTES // 2}.",
            "Give fewer with --images, or with --samples from --episodes.",
        )


class Taken:
    """Images as an engine will take them, one after the other.

    Args:
        count: of the images.
        spec: from a frame to pixels.
        camera: whose frames the engine takes; an image of another size is resized to it by Pillow first, as if the
            camera had.

    Attributes:
        pixels: float32 [count, 3, H, W], Pillow's and NumPy's.
        frames: uint8 [count, height, width, 3] in the camera's order of channels, or None.
        resized: see `GoldenFrames`.
    """

    def __init__(self, count: int, spec: Preprocessing, camera: Camera | None) -> None:
        self.pixels = np.empty((count, 3, spec.height, spec.width), np.float32)
        self.frames: np.ndarray | None = None
        self.resized = ""
        self._at = 0
        self._prepare, self._camera = Preprocessor(spec), camera
        self._filter = FILTERS[spec.resample]
        if camera is not None:
            self.frames = np.empty((count, camera.height, camera.width, 3), np.uint8)

    def add(self, frame: Frame) -> None:
        """One more image.

        Raises:
            ImageError: a file is broken, or holds what is refused on the robot too; names it.
        """
        image: Path | np.ndarray = frame.image
        if self._camera is not None and self.frames is not None:
            image = self._sized(image, self._camera, frame.name)
            self.frames[self._at] = image if self._camera.channels == "rgb" else image[:, :, ::-1]
        self._prepare(image, self.pixels[self._at])
        self._at += 1

    def _sized(self, image: Path | np.ndarray, camera: Camera, name: str) -> np.ndarray:
        """An image as the camera would give it, but in RGB."""
        opened = read_image(image) if isinstance(image, Path) else Image.fromarray(image)
        if opened.size == (camera.width, camera.height):
            return np.asarray(opened)
        self.resized = self.resized or f"{name} of {opened.width}x{opened.height}"
        return np.asarray(opened.resize((camera.width, camera.height), self._filter))


def _photographs() -> Iterator[Frame]:
    folder = resources.files("vla_edge.export.images")
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".jpg"):
            with resources.as_file(entry) as path:
                yield Frame(entry.name, np.asarray(read_image(path)))


def _patterns() -> Iterator[Frame]:
    """Extremes of a camera: noise, a lens cap, glare, a ramp, sharp edges."""
    rng = np.random.default_rng(PATTERN_SEED)
    height, width = PATTERN_SIZE
    rows, columns = np.mgrid[0:height, 0:width]
    yield Frame("noise", rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    yield Frame("dark", rng.integers(0, 12, (height, width, 3), dtype=np.uint8))
    yield Frame("glare", np.full((height, width, 3), 255, np.uint8))
    ramp = np.stack([columns * 255 // width, rows * 255 // height, 255 - columns * 255 // width], axis=-1)
    yield Frame("ramp", ramp.astype(np.uint8))
    board = ((rows // 24 + columns // 24) % 2 * 255).astype(np.uint8)
    yield Frame("board", np.repeat(board[..., None], 3, axis=2))
