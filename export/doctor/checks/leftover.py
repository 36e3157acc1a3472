"""What killed builds and exports left behind. Only what no living process holds locked, and only this user's."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from vla_edge.export.build.parts.placing import unnamed_in
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER
from vla_edge.runtime.files.staging import OLD_SUFFIX, leftovers, locked, remove, target_of

from ..finding import Finding

_MIB = 1 << 20
_MOST_ENTRIES = 100_000  # of one leftover: a damaged file system must not keep us for ever
_TODO = "vla-doctor --clean removes them. A vla-build or vla-bundle unpack begun again goes on from its own."
_ELSEWHERE = "Others: run it in the folder where commands were run, or give it the bundle."
_USUAL = ("engines", "report")  # where commands write unless they are told otherwise


class Leftover(Struct, frozen=True):
    """A hidden folder or file of a process that was killed.

    Attributes:
        path: where it lies.
        size_bytes: what it takes of the disk.
        removed: it was removed just now.
        earlier: it is a bundle that an export was about to replace; it is never removed.
    """

    path: str
    size_bytes: int
    removed: bool = False
    earlier: bool = False


def places(bundle: Path | None) -> list[Path]:
    """Folders in which commands leave something when they are killed."""
    here = Path.cwd()
    whole = bundle.resolve() if bundle else None  # it may be a link, such as `current`
    around = [bundle.parent, whole, whole / PLANS_FOLDER, whole.parent] if bundle and whole else []
    usual = [here, *(here / name for name in _USUAL), Path(tempfile.gettempdir())]
    found = [path.resolve() for path in (*around, *usual) if path.is_dir()]
    nested = [
        path / PLANS_FOLDER for folder in found if folder.name == "engines" for path in _folders(folder)
    ]
    return list(dict.fromkeys([*found, *nested]))


def find_leftovers(folders: Iterable[Path], clean: bool) -> list[Leftover]:
    """What dead processes left in these folders; with `clean` it is removed, each while it is locked."""
    found: list[Leftover] = []
    for folder in folders:
        if clean:
            found += [_removed(path) for path in leftovers(folder) if _is_ours(path)]
        else:  # listed first: a command that wants to go on from one must not find it locked
            found += [
                Leftover(str(path), taken_bytes(path)) for path in list(leftovers(folder)) if _is_ours(path)
            ]
        found += _unnamed(folder, clean) if folder.name == PLANS_FOLDER else []
        earlier = [path for path in leftovers(folder, OLD_SUFFIX) if _is_ours(path)]
        found += [Leftover(str(path), taken_bytes(path), earlier=True) for path in earlier]
    return found


def _unnamed(plans: Path, clean: bool) -> list[Leftover]:
    """Parts that no side file names: of a build that was killed while it put them in their place, or just before it
    removed those that it had replaced.
    """
    with suppress(OSError), locked(plans):  # none
        paths = [path for path in unnamed_in(plans) if _is_ours(path)]
        return [_removed(path) if clean else Leftover(str(path), taken_bytes(path)) for path in paths]
    return []


def _removed(path: Path) -> Leftover:
    size = taken_bytes(path)
    return Leftover(str(path), size, removed=remove(path))


def leftover_findings(found: list[Leftover], looked: Iterable[Path] = ()) -> Iterator[Finding]:
    """What was found, in words; where nothing was, in which folders that is said."""
    rest = [each for each in found if not each.earlier]
    gone = [each for each in rest if each.removed]
    here = [each for each in rest if not each.removed]
    if gone:
        yield Finding("leftovers", "leftovers", f"removed: {_listed(gone)}")
    if here:
        todo = "These stay, as their permissions are others'." if gone else _TODO
        yield Finding("leftovers", "leftovers", f"of killed commands: {_listed(here)}", "warning", todo)
    if not rest:
        # those of plans are the bundles' own, and would be many
        folders = ", ".join(str(path) for path in looked if path.name != PLANS_FOLDER)
        places_told = f" in {folders}" if folders else ""
        yield Finding("leftovers", "leftovers", f"none of killed commands{places_told}", todo=_ELSEWHERE)
    for each in found:
        if each.earlier:
            yield _earlier(Path(each.path))


def _earlier(old: Path) -> Finding:
    target = target_of(old, OLD_SUFFIX)
    what = f"{old} is a bundle that an export was about to replace when it was killed"
    todo = f"mv {old} {target}" if target and not target.exists() else f"Delete it if {target} is good."
    return Finding("earlier-bundle", "leftovers", what, "warning", todo)


def _listed(found: list[Leftover]) -> str:
    size = sum(each.size_bytes for each in found) / _MIB
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].path}{others}, {size:.1f} MiB"


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _is_ours(path: Path) -> bool:
    with suppress(OSError):
        return path.lstat().st_uid == os.geteuid()
    return False


def taken_bytes(path: Path) -> int:
    """Bytes on the disk of a file, or of a folder with what it holds."""
    total = _blocks(path)
    if path.is_dir() and not path.is_symlink():
        seen = 0
        for folder, folders, files in os.walk(path):
            seen += len(folders) + len(files)
            if seen > _MOST_ENTRIES:
                break
            total += sum(_blocks(Path(folder, name)) for name in (*folders, *files))
    return total


def _blocks(path: Path) -> int:
    with suppress(OSError):
        info = path.lstat()
        return info.st_blocks * 512 if stat.S_ISREG(info.st_mode) else 0  # as stat(2) counts them
    return 0
