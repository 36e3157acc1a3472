"""Parts of plans that several bundles have: as one file under several names, or as copies."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from vla_edge.runtime.bundle.finding import find_bundles
from vla_edge.runtime.engines.tensorrt.plan_names import PART_SUFFIX, PLAN_SUFFIX, PLANS_FOLDER
from vla_edge.runtime.errors import BundleError

_MOST_BUNDLES = 100
_MOST_FILES = 500  # of one bundle's plans


@dataclass(frozen=True)
class Beside:
    """Where the parts of some bundles lie.

    Attributes:
        by_file: folders of bundles by device and inode.
        by_name: by a part's name, which has its key in it, and its size.
    """

    by_file: dict[tuple[int, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    by_name: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def shared_with(self, part: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of bundles that have this very file too, and of those that have a copy."""
        own = os.path.realpath(part.parent.parent)
        try:
            info = part.lstat()
        except OSError:
            return (), ()
        same = self.by_file.get((info.st_dev, info.st_ino), set()) - {own}
        copies = self.by_name.get((part.name, info.st_size), set()) - {own} - same
        return _names(same), _names(copies)


def _names(folders: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(map(os.path.basename, folders)))


def parts_in(bundles: Iterable[Path]) -> Beside:
    """Look into the plans of bundles; what cannot be read has nothing to share."""
    found = Beside()
    for bundle in islice(bundles, _MOST_BUNDLES):
        folder = os.path.realpath(bundle)
        try:
            paths = list(islice((bundle / PLANS_FOLDER).iterdir(), _MOST_FILES))
        except OSError:
            continue
        for path in paths:
            # a whole plan may be what follows a camera in another bundle
            if path.name.endswith((PART_SUFFIX, PLAN_SUFFIX)):
                _note(found, path, folder)
    return found


def _note(found: Beside, path: Path, folder: str) -> None:
    try:
        info = path.lstat()
    except OSError:  # gone meanwhile
        return
    if stat.S_ISREG(info.st_mode):
        found.by_file[info.st_dev, info.st_ino].add(folder)
        if path.name.endswith(PART_SUFFIX):  # a whole plan's name has no key in it
            found.by_name[path.name, info.st_size].add(folder)


def parts_beside(bundle: Path) -> Beside:
    """The parts of all bundles in the folder where this one lies."""
    try:
        return parts_in(find_bundles(Path(os.path.realpath(bundle)).parent))
    except BundleError:  # a folder that must not be read
        return Beside()
