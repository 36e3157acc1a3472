"""A robot's folder of bundles: which one runs and which ran before are two links, each changed in one step."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vla_edge.export.build.parts.making import has_finished
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.finding import CURRENT, PREVIOUS
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER
from vla_edge.runtime.errors import BundleError, InputError, VlaError
from vla_edge.runtime.files.atomic import sync_folder
from vla_edge.runtime.files.renaming import swap
from vla_edge.runtime.files.staging import claimed, leftovers, remove, staging_folder, staging_path
from vla_edge.runtime.files.writable import refuse_unwritable
from vla_edge.runtime.process.interrupts import uninterrupted

from .record import read_record

_COMING_PREVIOUS = ".previous.next"  # what `previous` is to be once `current` is another, see `switch`
_log = logging.getLogger(__name__)
_DEPLOYED = re.compile(r".+-(?P<digits>[0-9a-f]{12})", re.DOTALL)
_MAX_NAME_BYTES = 150  # with the hash and a staging folder's affixes, what a file system takes


@contextmanager
def opened_root(root: Path) -> Iterator[None]:
    """Keep every other vla-bundle out of a robot's folder, which is made where it is not there.

    Raises:
        VlaError: another one is at work there.
        InputError: it cannot be written, or is no folder for bundles.
    """
    if (root / MANIFEST_NAME).exists():
        raise InputError(
            f"{root} is a bundle itself.", "Give the folder in which the robot keeps its bundles."
        )
    refuse_unwritable(root, "choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(root):
            for link in (CURRENT, PREVIOUS):
                read_link(root, link)
            _finish_switch(root)
            yield
    except BlockingIOError as error:
        raise VlaError(
            f"another vla-bundle is at work in {root}.",
            "Wait until it has ended, then give the command again.",
        ) from error


def folder_name(name: str, manifest_sha256: str) -> str:
    """Where a bundle of that name is deployed: letters, digits and "._-" of it, and its identity's first digits."""
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
    plain = plain.lstrip(".-")  # neither hidden nor, where a shell puts it into a command's words, an option
    plain = plain.encode("utf-8", "ignore")[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    return f"{plain or 'bundle'}-{manifest_sha256[:12]}"


def read_link(root: Path, link: str) -> str | None:
    """What a link holds; None where there is none.

    Raises:
        InputError: something else has its name.
    """
    path = root / link
    if path.is_symlink():
        return os.readlink(path)
    if os.path.lexists(path):
        raise InputError(f"{path} is no link.", "Move it away: vla-bundle makes a link of that name.")
    return None


def folder_of(root: Path, link: str) -> Path | None:
    """The folder that a link leads to, as `root / name` where it lies there; None where it leads nowhere."""
    if read_link(root, link) is None or not (root / link).is_dir():
        return None
    real = Path(os.path.realpath(root / link))
    return root / real.name if real.parent == Path(os.path.realpath(root)) else real


def switch(root: Path, target: Path) -> None:
    """Make a folder the current one, and the current one the previous. Both are as `folder_of` gives them.

    `current` is exchanged in one step: whatever ends this process, it leads to the one or the other. What `previous`
    is to be is on the disk before that, under a hidden name; where this process ends in between, the next one gives
    it its own.
    """
    running = folder_of(root, CURRENT)
    if running == target:
        return
    if running is not None:
        _point(root, _COMING_PREVIOUS, running)
    _point(root, CURRENT, target)
    _finish_switch(root)


def _finish_switch(root: Path) -> None:
    """Let `previous` be what a switch has left, unless that has not come to `current`."""
    coming = root / _COMING_PREVIOUS
    if not coming.is_symlink():
        return
    with uninterrupted():
        if folder_of(root, _COMING_PREVIOUS) in (None, folder_of(root, CURRENT)):
            coming.unlink()
        else:
            coming.replace(root / PREVIOUS)
    sync_folder(root)


def switch_back(root: Path, previous: Path) -> None:
    """Exchange current and previous, both of which are there."""
    with uninterrupted():
        exchanged = swap(root / CURRENT, root / PREVIOUS)
    if exchanged:
        sync_folder(root)
    else:  # a kernel or file system that cannot
        switch(root, previous)


def _point(root: Path, link: str, target: Path) -> None:
    """Let a link lead to a folder, in one step; by its name alone where it lies beside."""
    with staging_folder(root / link) as folder:
        new = folder / link
        new.symlink_to(target.name if target.parent == root else target)
        sync_folder(folder)
        with uninterrupted():
            os.replace(new, root / link)
    sync_folder(root)


def deployed_in(root: Path) -> list[Path]:
    """The folders that were deployed here, the latest first: named by `folder_name`, with the manifest named."""
    found = []
    for path in root.iterdir():
        match = _DEPLOYED.fullmatch(path.name)
        if not match or path.name.startswith(".") or path.is_symlink():
            continue
        # damaged, gone, or not ours: not to be counted, nor to be removed
        with suppress(BundleError, OSError):
            sha256 = Bundle.unchecked(path).manifest_sha256
            if sha256.startswith(match["digits"]):
                record = read_record(path, sha256)
                found.append((record.number if record else 0, _last_change_ns(path), path))
    return [path for *_, path in sorted(found, reverse=True)]


def next_number(root: Path) -> int:
    """Of a deploy: one more than any before had. A clock does not tell their order: a board's may begin anew."""
    records = (read_record(path, Bundle.unchecked(path).manifest_sha256) for path in deployed_in(root)[:1])
    return max((record.number for record in records if record), default=0) + 1


def _last_change_ns(folder: Path) -> int:
    """When it was deployed, of those that have no number: each time writes beside its plans."""
    plans = folder / PLANS_FOLDER
    return (plans if plans.is_dir() else folder).stat().st_mtime_ns


def remove_older(root: Path, keep: int) -> list[Path]:
    """Remove what was deployed, except current, previous and the latest ones up to `keep` in all.

    What cannot be removed stays, and a warning names it: this comes after the switch, which is not undone by it.

    Returns:
        What is gone.
    """
    linked = {folder_of(root, link) for link in (CURRENT, PREVIOUS)} - {None}
    others = [path for path in deployed_in(root) if path not in linked]
    return [path for path in others[max(0, keep - len(linked)) :] if _discarded(path)]


def _discarded(folder: Path) -> bool:
    try:
        discard(folder)
    except OSError as error:
        _log.warning("%s could not be removed (%s); delete it.", folder, error.strerror)
        return False
    return True


def discard(folder: Path) -> None:
    """Remove a bundle so that it is never there in part: what a kill leaves has a name of leftovers."""
    away = staging_path(folder)
    os.rename(folder, away)
    if not remove(away):
        _log.warning("%s could not be removed; delete it.", away)


def tidy(root: Path) -> None:
    """Remove what killed processes left in the root and beside the plans in it, but finished parts of plans."""
    for left in leftovers(root):
        remove(left)
    for folder in deployed_in(root):
        for left in leftovers(folder / PLANS_FOLDER):
            if not has_finished(left):
                remove(left)
