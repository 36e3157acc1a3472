"""From a path to its episodes: what it is, is told by what it holds, not by its name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.order import natural_order

from .episode import Episode
from .episodes import Episodes, Source
from .kinds import SUFFIXES, Kind, holds_images, kind_of_file, kind_of_folder
from .reading import require_file

EXTRA = "episodes"
_NAMED = 5  # of the folders that an error tells


@dataclass(frozen=True)
class Choice:
    """What of a recording is meant, where it holds several.

    Attributes:
        view: a LeRobot feature ("observation.images.front") or a topic of images; None for the only one.
        commands: a topic of velocities ("/cmd_vel"); None for the only one.
        actions: whether what was driven is read; without it no topic of velocities has to be chosen, and no CSV beside
            frames is looked at.
    """

    view: str | None = None
    commands: str | None = None
    actions: bool = True


def open_episodes(path: Path, *, choice: Choice | None = None, skip_broken: bool = False) -> Episodes:
    """The episodes in a file or folder; none is opened yet.

    Args:
        path: a recording, or a folder of recordings. Files are told by how they begin; one whose name promises a
            recording and whose content is none is a broken episode, never left out silently.
        choice: of a view and of commands, where a recording has several.
        skip_broken: pass over what cannot be read, and keep it by name in `Episodes.broken`.

    Raises:
        EpisodeError: nothing there is a recording.
        MissingPackageError: the library of that format is not installed.
    """
    choice = choice or Choice()
    found: list[tuple[Path, Kind | None]]
    if not path.is_dir():
        require_file(path)
        found = [(path, kind) for kind in (kind_of_file(path),) if kind]
    elif whole := kind_of_folder(path):
        found = [(path, whole)]
    else:
        found = _recordings(path)
        if holds_images(path) and all(kind is Kind.IMAGES for _, kind in found):
            found = [(path, Kind.IMAGES)]
    if not found:
        raise _no_recording(path)
    kinds = dict.fromkeys(kind for _, kind in found if kind)
    for kind in kinds:
        require(EXTRA, *kind.packages)
    sources = [source for each, kind in found for source in _sources(each, kind, choice)]
    label = " and ".join(kind.label.partition(" (")[0] for kind in kinds)
    return Episodes(path, label or "recordings", sources, skip_broken)


def _recordings(folder: Path) -> list[tuple[Path, Kind | None]]:
    """The recordings directly in a folder, as people count; None where the content is not what the name says."""
    try:
        children = sorted(folder.iterdir(), key=natural_order)
    except OSError as error:
        raise EpisodeError(
            f"{folder} cannot be listed: {error.strerror}.", "Give a folder of recordings."
        ) from error
    found: list[tuple[Path, Kind | None]] = []
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            kind = Kind.BAG if kind_of_folder(child) is Kind.BAG else None
            kind = kind or (Kind.IMAGES if holds_images(child) else None)
        else:
            kind = kind_of_file(child)
        if kind or (not child.is_dir() and child.suffix.lower() in SUFFIXES):
            found.append((child, kind))
    return found


def _sources(path: Path, kind: Kind | None, choice: Choice) -> list[Source]:
    """Each reader is imported, and so its library, when the first recording of its kind is there."""
    if kind is Kind.HDF5:
        from .hdf5 import open_hdf5

        return [Source(path.name, partial(open_hdf5, path, path.name))]
    if kind is Kind.LEROBOT:
        from .lerobot.data_set import lerobot_sources

        return lerobot_sources(path, choice.view)
    if kind is Kind.BAG:
        from .ros2.bag import open_bag

        return [
            Source(
                path.name, partial(open_bag, path, path.name, choice.view, choice.commands, choice.actions)
            )
        ]
    if kind is Kind.VIDEO:
        from .video import open_video

        return [Source(path.name, partial(open_video, path, path.name, choice.actions))]
    if kind is Kind.IMAGES:
        from .image_folder import open_image_folder

        name = path.resolve().name
        return [Source(name, partial(open_image_folder, path, name, choice.actions))]
    return [Source(path.name, partial(_refuse, path))]


def _refuse(path: Path) -> Episode:
    require_file(path)
    raise EpisodeError(
        f"{path} is not what its name says: it begins like no recording.",
        "It is damaged, or was not fetched (git lfs pull): copy it again, or leave it out.",
    )


def _no_recording(path: Path) -> EpisodeError:
    folders = [child for child in sorted(path.iterdir()) if child.is_dir()] if path.is_dir() else []
    if folders:
        named = ", ".join(str(folder) for folder in folders[:_NAMED])
        return EpisodeError(f"{path} itself holds no recording.", f"Give one of its folders: {named}.")
    known = ", ".join(kind.label for kind in Kind)
    return EpisodeError(f"{path} holds no recording.", f"Known are {known}.")
