"""Renames that `os.rename` does not know: onto a free name only, and of two names at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCHANGE = 2
# What a kernel, C library or file system without these answers; EPERM: a sandbox that blocks the call.
_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where kernel or file system cannot.

    Raises:
        OSError: it is refused; everything is as it was.
    """
    return _renameat2(one, other, _RENAME_EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that nothing has, whoever else takes that name at this moment.

    Where kernel and file system cannot promise that, a file is linked; a folder could only then still replace
    one that is empty.

    Raises:
        FileExistsError: the name is taken; everything is as it was.
        OSError: it is refused for another reason.
    """
    if _renameat2(source, target, _RENAME_NOREPLACE):
        return
    if source.is_symlink() or not source.is_dir():
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links, such as FAT
            _rename_unless_there(source, target)
        else:
            os.unlink(source)
        return
    _rename_unless_there(source, target)


def _rename_unless_there(source: Path, target: Path) -> None:
    taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if os.path.lexists(target):
        raise taken
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in _TAKEN:
            raise taken from error
        raise


def _renameat2(source: Path, target: Path, flags: int) -> bool:
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), str(target))
