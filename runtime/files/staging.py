"""Places to write into until the work is done: hidden, beside their target, removed on every end.

A killed process cannot remove its own. The next one that writes into the same folder does, and tells the
dead's from a living neighbour's by a lock (`flock`), which the kernel releases at death. A process number
would not do: in containers that share a folder every process is number 1. Where a file system has no locks
nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vla_edge.runtime.process.interrupts import uninterrupted

PARTIAL_SUFFIX = ".partial"  # of what is still being written
# The same, where the next process may go on from it: it goes only when asked for.
RESUMED_SUFFIX = ".resumable"
OLD_SUFFIX = ".old"  # of what is about to be replaced, see exchange.py
_NAME = re.compile(r"\.(?P<target>.+)\.vla-[0-9a-f]{16}(?P<suffix>\.[a-z]+)", re.DOTALL)


def staging_path(target: Path, suffix: str = PARTIAL_SUFFIX) -> Path:
    """A new hidden name beside `target`, recognised by `target_of`."""
    return target.with_name(f".{target.name}.vla-{secrets.token_hex(8)}{suffix}")


def target_of(path: Path, *suffixes: str) -> Path | None:
    """What a path that `staging_path` gave is the staging place of; None for every other path.

    Args:
        path: any.
        suffixes: those that count; both of what is being written, where none is given.
    """
    found = _NAME.fullmatch(path.name)
    counts = suffixes or (PARTIAL_SUFFIX, RESUMED_SUFFIX)
    return path.with_name(found["target"]) if found and found["suffix"] in counts else None


@contextmanager
def staging_folder(target: Path, mode: int = 0o777) -> Iterator[Path]:
    """A hidden folder beside `target`, whose parent must exist; removed in the end, unless renamed meanwhile.

    What dead processes left in the parent is removed first.

    Args:
        target: what the folder is for.
        mode: its permissions, less those that the process's mask takes.

    Raises:
        OSError: the parent cannot be written.
    """
    remove_leftovers(target.parent)
    folder, lock = new_folder(target, mode)
    try:
        yield folder
    finally:
        with uninterrupted():
            remove(folder)
            os.close(lock)


@contextmanager
def resumed_folder(
    target: Path,
    keeps: Callable[[Path], bool] = lambda folder: False,
    spares: Callable[[Path], bool] = lambda folder: False,
) -> Iterator[Path]:
    """As `staging_folder`, but it begins with what a dead process left of the same target, where there is something.

    That is unproven: half-written, or of other work for that target; the caller checks it.

    Args:
        target: what the folder is for.
        keeps: where the block fails, whether the folder holds what the next one can go on from; it is then left, as
            by a dead process.
        spares: whether such a folder of another target, left by a dead process, is of use to the next one there;
            others are removed first.

    Raises:
        OSError: the parent cannot be written.
    """
    folder, lock = _taken_over(target) or new_folder(target, suffix=RESUMED_SUFFIX)
    kept = False
    try:
        for left in leftovers(target.parent):  # not this one, which is locked
            if target_of(left) == target or not spares(left):
                remove(left)
        try:
            yield folder
        except BaseException:
            kept = keeps(folder)
            raise
    finally:
        with uninterrupted():
            if not kept:
                remove(folder)
            os.close(lock)


def _taken_over(target: Path) -> tuple[Path, int] | None:
    """A dead process's staging folder for `target`, and the descriptor by which it is locked now."""
    for path in [left for left in leftovers(target.parent) if target_of(left) == target]:
        with suppress(OSError):  # no folder, or gone meanwhile
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with suppress(OSError):  # another was faster
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(lock, path):
                    return path, lock
            os.close(lock)
    return None


def scratch_folder(name: str) -> AbstractContextManager[Path]:
    """A folder of this user's in the system's place for temporary files; see `staging_folder`."""
    return staging_folder(Path(tempfile.gettempdir()) / name, mode=0o700)


def new_folder(target: Path, mode: int = 0o777, suffix: str = PARTIAL_SUFFIX) -> tuple[Path, int]:
    """A new hidden folder beside `target`, and the descriptor by which it is locked.

    Raises:
        OSError: the parent does not exist or cannot be written.
    """
    while True:
        folder = staging_path(target, suffix)
        folder.mkdir(mode)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # a neighbour took it for a dead one's before it was opened,
            continue
        take_lock(lock)
        if is_at(lock, folder):
            return folder, lock
        os.close(lock)  # or before it was locked


def new_file(target: Path) -> tuple[Path, BinaryIO]:
    """A new hidden file beside `target`, open for binary writing and locked until it is closed.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    while True:
        path = staging_path(target)
        file = path.open("xb")
        take_lock(file.fileno())
        if is_at(file.fileno(), path):
            return path, file
        file.close()  # a neighbour took it for a dead one's before it was locked


def take_lock(descriptor: int) -> None:
    """Mark an open file or folder as a living process's until it is closed, where the file system can."""
    with suppress(OSError):  # it has no locks: then nobody will take ours for a dead one's either
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others who ask for the same out of a folder, for steps of which theirs must not come in between."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        take_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """As `locked`, but does not wait.

    Raises:
        BlockingIOError: another process has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def leftovers(folder: Path, *suffixes: str) -> Iterator[Path]:
    """Staging places of dead processes in a folder; each is locked while the caller looks at it.

    Args:
        folder: to look into.
        suffixes: as of `target_of`.
    """
    try:
        found = [path for path in folder.iterdir() if target_of(path, *suffixes)]
    except OSError:  # not to be listed: what lies there is not ours to tidy
        return
    for path in found:
        with suppress(OSError):  # gone meanwhile, not ours, a living one's, or a file system without locks
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(descriptor, path):
                    yield path
            finally:
                os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes left in a folder, but what the next one may go on from."""
    for path in leftovers(folder, PARTIAL_SUFFIX):
        remove(path)


def remove(path: Path) -> bool:
    """Remove a folder with what it holds, a file or a link, as far as that is possible; whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _let_owner_write(path)
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


def _let_owner_write(folder: Path) -> None:
    """Out of a folder without write permission nothing can be removed, not even by its owner."""
    with suppress(OSError):  # not this user's
        folder.chmod(0o700)
    for _, names, _, descriptor in os.fwalk(folder):
        for name in names:
            with suppress(OSError):
                if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o700, dir_fd=descriptor)
