"""Put a finished folder in the place of an earlier one, which is never out of its place half-way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vla_edge.runtime.process.interrupts import uninterrupted

from .renaming import rename_new, swap
from .staging import OLD_SUFFIX, leftovers, new_folder, remove, staging_path, take_lock, target_of

_PROBE_NAME = ".vla-probe"  # what fills the folder of `require_exchangeable`


def exchange(new: Path, target: Path) -> bool:
    """Give `new`, a complete folder, the name `target`, and remove what had that name.

    In one step where kernel and file system can (Linux on ext4, XFS, Btrfs, tmpfs, overlay). Elsewhere in two,
    between which only SIGKILL or a loss of power can come; `recover` then repairs it.

    Args:
        new: a staging folder beside `target`; gone afterwards.
        target: a folder, or a link to one: of a link the link goes, not what it points to.

    Returns:
        Whether what had that name could be removed; it is at `new` otherwise.

    Raises:
        OSError: it cannot be renamed; everything is as it was.
    """
    with uninterrupted():
        if not _exchange_in_one_step(new, target):
            _exchange_in_two_steps(new, target)
        return remove(new)


def _exchange_in_one_step(new: Path, target: Path) -> bool:
    return swap(new, target)


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

    A rename onto a folder that is not empty is always refused; what matters is by which error. Should somebody
    empty that folder at the wrong moment, the rename succeeds: so it has a name that no clean-up removes, only
    `recover` moves, back to `target`; the same is done here at once; and only an empty folder is removed.

    Raises:
        OSError: it cannot be, such as EXDEV for a folder of a container image's layer, EBUSY for a mounted one.
    """
    blocker, lock = new_folder(target, suffix=OLD_SUFFIX)
    try:
        (blocker / _PROBE_NAME).touch()
        if not target.is_symlink():
            with uninterrupted():
                os.rename(target, blocker)
                rename_new(blocker, target)
    except FileNotFoundError:  # it, or the blocker, is gone: nothing that says it cannot be replaced
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        with uninterrupted():
            _remove_blocker(blocker)
            os.close(lock)


def _remove_blocker(path: Path) -> bool:
    """Whether it was one; a folder that holds anything else stays as it is."""
    try:
        if os.listdir(path) == [_PROBE_NAME]:
            (path / _PROBE_NAME).unlink()
        path.rmdir()
    except OSError:
        return False
    return True


def recover(folder: Path) -> Iterator[str]:
    """Undo exchanges in a folder that a killed process left half-way; yields what was done, for the user."""
    for old in leftovers(folder, OLD_SUFFIX):
        target = target_of(old, OLD_SUFFIX)
        if target is None or _remove_blocker(old):
            continue
        if os.path.lexists(target):
            yield f"{old} was set aside by an export that was killed; delete it if {target} is good."
            continue
        try:
            rename_new(old, target)
        except (FileNotFoundError, FileExistsError):  # a neighbour was faster
            continue
        except OSError as error:
            yield f"{old} was set aside by an export that was killed; it cannot be moved back: {error.strerror}."
        else:
            yield f"{target} is back in its place: an export that should replace it was killed."
