"""What fails for want of memory says so, and is not taken for damage of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vla_edge.runtime.errors import ResourceError

_HINT = (
    "Close other programs, raise this shell's limit (ulimit -v) or the container's, or use a larger machine."
)


@contextmanager
def needs_memory(doing: str) -> Iterator[None]:
    """Turn a lack of memory into an error.

    Args:
        doing: what the memory is for, such as "reading a.pth".

    Raises:
        ResourceError: there was too little, also for loading torch itself.
    """
    try:
        yield
    except MemoryError as error:
        raise ResourceError(f"There is too little memory for {doing}.", _HINT) from error
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        # a library that does not fit into the address space is an ImportError too
        if "failed to map" in str(error) or "memory" in str(error):
            raise ResourceError(
                f"There is too little memory to load torch for {doing}: {error}.", _HINT
            ) from error
        raise ResourceError(
            f"torch cannot be loaded for {doing}: {error}.",
            "Install it again; python -c 'import torch' shows the whole error.",
        ) from error
    except RuntimeError as error:
        if "memory" not in str(error):  # torch's allocator raises no MemoryError
            raise
        raise ResourceError(f"There is too little memory for {doing}: {error}.", _HINT) from error
