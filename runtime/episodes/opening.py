"""From a path to its episodes: what it is, is told by what it holds, not by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.order import natural_order

from .episode import Episode
from .episodes import Episodes, Source
from .kinds import SUFFIXES, Kind, kind_of_file
from .reading import require_file

EXTRA = "episodes"


def open_episodes(path: Path, *, skip_broken: bool = False) -> Episodes:
    """The episodes in a file or folder; none is opened yet.

    Args:
        path: a recording, or a folder of recordings. Files are told by how they begin; one whose name promises a
            recording and whose content is none is a broken episode, never left out silently.
        skip_broken: pass over what cannot be read, and keep it by name in `Episodes.broken`.

    Raises:
        EpisodeError: nothing there is a recording.
        MissingPackageError: the library of that format is not installed.
    """
    if not path.is_dir():
        require_file(path)
        kind = kind_of_file(path)
        if kind is None:
            raise _no_recording(path)
        return Episodes(path, kind.label, [_source(path, path.name, kind)], skip_broken)
    found = _recordings(path)
    if not found:
        raise _no_recording(path)
    kinds = {kind.label for _, kind in found if kind}
    sources = [_source(file, file.name, kind) for file, kind in found]
    return Episodes(path, " and ".join(sorted(kinds)) or "recordings", sources, skip_broken)


def _recordings(folder: Path) -> list[tuple[Path, Kind | None]]:
    """The recordings directly in a folder, as people count; None where the content is not what the name says."""
    try:
        children = sorted(folder.iterdir(), key=natural_order)
    except OSError as error:
        raise EpisodeError(
            f"{folder} cannot be listed: {error.strerror}.", "Give a folder of recordings."
        ) from error
    files = [child for child in children if not child.name.startswith(".") and not child.is_dir()]
    told = [(file, kind_of_file(file)) for file in files]
    return [(file, kind) for file, kind in told if kind or file.suffix.lower() in SUFFIXES]


def _source(path: Path, name: str, kind: Kind | None) -> Source:
    if kind is None:
        return Source(name, partial(_refuse, path))
    require(EXTRA, *kind.packages)
    return Source(name, partial(_OPENERS[kind](), path, name))


def _refuse(path: Path) -> Episode:
    require_file(path)
    raise EpisodeError(
        f"{path} is not what its name says: it begins like no recording.",
        "It is damaged, or was not fetched (git lfs pull): copy it again, or leave it out.",
    )


def _no_recording(path: Path) -> EpisodeError:
    known = ", ".join(dict.fromkeys(kind.label for kind in Kind))
    return EpisodeError(f"{path} holds no recording.", f"Known are {known}.")


def _hdf5() -> Callable[[Path, str], Episode]:
    from .hdf5 import open_hdf5

    return open_hdf5


# Each imports its reader, and so its library, when the first file of its kind is there.
_OPENERS: dict[Kind, Callable[[], Callable[[Path, str], Any]]] = {Kind.HDF5: _hdf5}
