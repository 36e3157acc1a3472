"""Images and recordings to actions, as `vla-run` asks for them: one by one, or a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

from vla_edge.runtime.episodes.kinds import SUFFIXES, holds_images, kind_of_file, kind_of_folder
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError
from vla_edge.runtime.images.order import images_in

if TYPE_CHECKING:
    from vla_edge.runtime.action import Action
    from vla_edge.runtime.batch import BatchPolicy
    from vla_edge.runtime.episodes.episode import Episode
    from vla_edge.runtime.episodes.episodes import Episodes
    from vla_edge.runtime.episodes.opening import Choice
    from vla_edge.runtime.policy import Policy
    from vla_edge.runtime.preprocess import Frame

# A frame's name, and its action, or why there is none.
Result = tuple[Path, Union["Action", ImageError]]


def list_images(arguments: Sequence[Path], choice: Choice | None = None) -> list[Path | Episodes]:
    """The images and recordings that are meant, folders of images replaced by what they hold.

    Args:
        arguments: files and folders.
        choice: of a view and of commands, where a recording has several.

    Raises:
        InputError: a folder without either, or what is called as a recording and is none.
        MissingPackageError: a recording's library is not installed.
    """
    found: list[Path | Episodes] = []
    for path in arguments:
        if path.is_dir() and kind_of_folder(path) is None and holds_images(path):
            found += images_in(path)
        elif path.is_dir() or kind_of_file(path) or (path.is_file() and path.suffix.lower() in SUFFIXES):
            found.append(_recordings(path, choice))
        else:
            found.append(path)
    return found


def _recordings(path: Path, choice: Choice | None) -> Episodes:
    from vla_edge.runtime.episodes.opening import open_episodes

    try:
        return open_episodes(path, choice=choice)
    except EpisodeError:
        if path.is_dir():
            images_in(path)  # says which images are known
        raise


def run_images(
    policy: Policy,
    found: Sequence[Path | Episodes],
    instruction: str | None,
    *,
    reset_each: bool,
    strict: bool,
    swapped: bool = False,
) -> Iterator[Result]:
    """The action for each frame, or with `strict` off the reason why there is none.

    Args:
        policy: a policy.
        found: image files and recordings; each episode of a recording is a sequence.
        instruction: None for the bundle's default, and for what an episode tells itself.
        reset_each: whether each image is an episode of its own.
        strict: whether the first frame that cannot be used ends it.
        swapped: whether the files hold blue where they should hold red.

    Raises:
        VlaError: whatever `Policy.act` raises, except an ImageError where `strict` is off.
    """
    for each in found:
        if not isinstance(each, Path):
            yield from _run_recording(policy, each, instruction, strict, swapped)
            continue
        if reset_each:
            policy.reset()
        try:
            yield each, policy.act(_frame(policy, each, swapped), instruction)
        except ImageError as error:
            named = _named(each, error)
            if strict:
                raise named from error
            yield each, named


def _run_recording(
    policy: Policy, episodes: Episodes, instruction: str | None, strict: bool, swapped: bool
) -> Iterator[Result]:
    """Episode after episode; one that is broken ends at its first bad frame, and the next begins anew."""
    for name, opened in episodes.opened():
        yield from _run_episode(policy, episodes.path / name, opened, instruction, strict, swapped)
    policy.reset()


def _run_episode(
    policy: Policy,
    path: Path,
    opened: Callable[[], Episode],
    instruction: str | None,
    strict: bool,
    swapped: bool,
) -> Iterator[Result]:
    policy.reset()
    try:
        episode = opened()
        text = (instruction or episode.instruction) if policy.instructions else None
        for at, frame in enumerate(episode.frames()):
            array = policy.in_order(frame, "bgr" if swapped else "rgb")
            yield _frame_name(episode, at), policy.act(array, text)
    except EpisodeError as error:
        if strict:
            raise
        yield path, ImageError(error.problem, error.hint)
    except ImageError as error:
        named = _named(path, error)
        if strict:
            raise named from error
        yield path, named


def _frame_name(episode: Episode, at: int) -> Path:
    """Such as "drive.mp4#12"; of a recording that holds several episodes "data-set/episode_3#12"."""
    whole = episode.path if episode.path.name == episode.name else episode.path / episode.name
    return whole.with_name(f"{whole.name}#{at}")


def run_batches(
    policy: BatchPolicy,
    found: Sequence[Path | Episodes],
    instruction: str | None,
    *,
    strict: bool,
    swapped: bool = False,
) -> Iterator[Result]:
    """As `run_images`, as many images at a time as the engine takes; each is an episode of its own.

    Raises:
        InputError: a recording, whose frames are a sequence.
    """
    paths = [each for each in found if isinstance(each, Path)]
    if len(paths) < len(found):
        raise InputError(
            "this bundle takes a batch of frames, each an episode of its own: a recording needs one at a time.",
            "Export it with --batch 1.",
        )
    for start in range(0, len(paths), policy.batch):
        group = paths[start : start + policy.batch]
        frames = [_frame_or_error(policy, path, swapped) for path in group]
        usable = [frame for frame in frames if not isinstance(frame, ImageError)]
        actions = iter(policy.act(usable, instruction) if usable else ())
        for path, frame in zip(group, frames, strict=True):
            result = frame if isinstance(frame, ImageError) else next(actions)
            if isinstance(result, ImageError):
                result = _named(path, result)
            if strict and isinstance(result, ImageError):
                raise result
            yield path, result


def _frame(policy: Policy | BatchPolicy, path: Path, swapped: bool) -> Frame:
    """What `act` takes: the path, or what it holds as an array, whose channels are turned back."""
    if not swapped:
        return path
    import numpy as np

    from vla_edge.runtime.images.reading import read_image

    return policy.in_order(np.asarray(read_image(path)), "bgr")


def _frame_or_error(policy: BatchPolicy, path: Path, swapped: bool) -> Frame | ImageError:
    try:
        return _frame(policy, path, swapped)
    except ImageError as error:
        return error


def _named(path: Path, error: ImageError) -> ImageError:
    """An error that says which file it is about, as one of a frame that came as an array does not."""
    if str(path) in error.problem:
        return error
    return ImageError(f"{path}: {error.problem}", error.hint)
