"""Image files to actions, as `vla-run` asks for them: one by one, or a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from vla_edge.runtime.errors import ImageError, InputError
from vla_edge.runtime.images.order import images_in

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action
    from vla_edge.runtime.batch import BatchPolicy
    from vla_edge.runtime.policy import Policy
    from vla_edge.runtime.preprocess import Frame

Result = tuple[Path, Union["Action", ImageError]]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def list_images(arguments: Sequence[Path]) -> list[Path]:
    """The image files that are meant, folders replaced by what they hold.

    Raises:
        InputError: a folder without images, or a video.
    """
    found: list[Path] = []
    for path in arguments:
        if path.is_dir():
            found += images_in(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            raise InputError(f"{path} is a video.", f"Split it into frames: ffmpeg -i {path} frames/%05d.png")
        else:
            found.append(path)
    return found


def run_images(
    policy: Policy,
    paths: Sequence[Path],
    instruction: str | None,
    *,
    reset_each: bool,
    strict: bool,
    swapped: bool = False,
) -> Iterator[Result]:
    """The action for each image, or with `strict` off the reason why there is none.

    Args:
        policy: a policy; where `swapped`, one that was loaded with `channels="bgr"`.
        paths: image files.
        instruction: None for the bundle's default.
        reset_each: whether each image is an episode of its own.
        strict: whether the first image that cannot be used ends it.
        swapped: whether the files hold blue where they should hold red.

    Raises:
        VlaError: whatever `Policy.act` raises, except an ImageError where `strict` is off.
    """
    for path in paths:
        if reset_each:
            policy.reset()
        try:
            yield path, policy.act(_frame(path, swapped), instruction)
        except ImageError as error:
            if strict:
                raise
            yield path, error


def run_batches(
    policy: BatchPolicy,
    paths: Sequence[Path],
    instruction: str | None,
    *,
    strict: bool,
    swapped: bool = False,
) -> Iterator[Result]:
    """As `run_images`, as many images at a time as the engine takes; each is an episode of its own."""
    for start in range(0, len(paths), policy.batch):
        group = paths[start : start + policy.batch]
        frames = [_frame_or_error(path, swapped) for path in group]
        usable = [frame for frame in frames if not isinstance(frame, ImageError)]
        actions = iter(policy.act(usable, instruction) if usable else ())
        for path, frame in zip(group, frames, strict=True):
            result = frame if isinstance(frame, ImageError) else next(actions)
            if strict and isinstance(result, ImageError):
                raise result
            yield path, result


def _frame(path: Path, swapped: bool) -> Frame:
    """What `act` takes: the path, or what it holds as an array, which "bgr" swaps back."""
    if not swapped:
        return path
    import numpy as np

    from vla_edge.runtime.images.reading import read_image

    return np.asarray(read_image(path))


def _frame_or_error(path: Path, swapped: bool) -> Frame | ImageError:
    try:
        return _frame(path, swapped)
    except ImageError as error:
        return error
