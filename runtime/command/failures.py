"""What libraries and the system raise, in the words of this toolchain."""

from __future__ import annotations

import errno

from vla_edge.runtime.errors import EngineError, ResourceError, VlaError

from .extras import EXTRA_OF, missing_packages

# Parts of messages by which allocators and loaders tell that memory, or a limit on it, ran out.
_MEMORY_WORDS = (
    "bad_alloc",
    "bad allocation",
    "can't allocate memory",
    "can't start new thread",
    "cannot allocate memory",
    "failed to map segment",
    "insufficient memory",
    "not enough memory",
    "out of memory",
    "unable to allocate",
)


def in_plain_words(error: BaseException) -> VlaError | None:
    """The user error that a foreign one amounts to; None for a mistake of ours, whose traceback is wanted."""
    if isinstance(error, VlaError):
        return error
    if is_out_of_memory(error):
        return _out_of_memory(error)
    if isinstance(error, ImportError):
        return _not_importable(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"the disk of {error.filename}" if error.filename else "a disk"
        return ResourceError(f"{place} is full.", "Free some space, or write elsewhere.")
    if isinstance(error, OSError):
        named = error.filename is not None and error.strerror is not None
        return VlaError(f"{error.filename}: {error.strerror}" if named else str(error))
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, or a limit on it, ran out: libraries say so by exceptions of many types."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, (ImportError, OSError, RuntimeError, SystemError)):
        return False
    try:
        words = str(error).lower()
    except Exception:  # a message that itself needs memory
        return False
    return any(part in words for part in _MEMORY_WORDS)


def _out_of_memory(error: BaseException) -> ResourceError:
    lines = str(error).splitlines()
    said = f": {lines[0].rstrip('.')}" if lines else ""
    return ResourceError(
        f"not enough memory{said}.",
        "Stop other programs, raise this process's limit (ulimit -v, a container's), or use a larger machine.",
    )


def _not_importable(error: ImportError) -> VlaError | None:
    package = (error.name or "").partition(".")[0]
    if package == "vla_edge":
        return None
    if isinstance(error, ModuleNotFoundError) and package in EXTRA_OF and error.name == package:
        return missing_packages([package])
    return EngineError(
        f"{package or 'a library'} cannot be imported: {error}.",
        "Install vla-edge and its extras into a fresh virtual environment.",
    )
