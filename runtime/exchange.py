"""Put a finished folder in the place of an earlier one, which is never out of its place half-way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .interrupts import uninterrupted
from .staging import OLD_SUFFIX, leftovers, remove, staging_path, take_lock, target_of

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
# What a kernel, C library or file system without the exchange answers; EPERM: a sandbox that blocks the call.
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def exchange(new: Path, target: Path) -> None:
    """Give `new`, a complete folder, the name `target`, and remove what had that name.

    In one step where kernel and file system can (Linux on ext4, XFS, Btrfs, tmpfs, overlay). Elsewhere in two,
    between which only SIGKILL or a loss of power can come; `recover` then mends it.

    Args:
        new: a staging folder beside `target`; gone afterwards.
        target: a folder, or a link to one: of a link the link goes, not what it points to.

    Raises:
        OSError: it cannot be renamed; everything is as it was.
    """
    with uninterrupted():
        if not _exchange_in_one_step(new, target):
            _exchange_in_two_steps(new, target)
        remove(new)


def _exchange_in_one_step(new: Path, target: Path) -> bool:
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(target))


def _exchange_in_two_steps(new: Path, target: Path) -> None:
    """Leaves what was at `target` under the name `new`, as the one step does."""
    old = staging_path(target, OLD_SUFFIX)
    lock = os.open(target, os.O_RDONLY)
    take_lock(lock)  # a neighbour that starts now must not take `old` for a dead one's
    try:
        os.rename(target, old)
        os.rename(new, target)
        os.rename(old, new)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        raise
    finally:
        os.close(lock)


def require_exchangeable(target: Path) -> None:
    """Find out whether `target` could be renamed, without moving it.

    A rename onto a folder that is not empty is always refused; what matters is by which error.

    Raises:
        OSError: it cannot be, such as EXDEV for a folder of a container image's layer, EBUSY for a mounted one.
    """
    blocker = staging_path(target)
    blocker.mkdir()
    try:
        (blocker / "full").touch()
        if not target.is_symlink():
            os.rename(target, blocker)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        remove(blocker)


def recover(folder: Path) -> Iterator[str]:
    """Undo exchanges in a folder that a killed process left half-way; yields what was done, for the user."""
    for old in leftovers(folder, OLD_SUFFIX):
        target = target_of(old, OLD_SUFFIX)
        if target is None:
            continue
        if os.path.lexists(target):
            yield f"{old} was set aside by an export that was killed; delete it if {target} is good."
            continue
        with suppress(FileNotFoundError):  # a neighbour was faster
            os.rename(old, target)
            yield f"{target} is back in its place: an export that should replace it was killed."
