"""The process that started this program, from the program's first moment on."""

from __future__ import annotations

import os

from vla_edge.runtime.errors import VlaError

_STARTED_BY = os.getppid()


def require_parent(hint: str) -> None:
    """Refuse to begin where the process that started this one has ended since, as while a policy was loaded.

    Its end is seen by a change of the parent's number, which nobody sees who first looks after it.

    Args:
        hint: how to do without it.

    Raises:
        VlaError: it has ended since this module was imported, which commands do first.
    """
    if os.getppid() != _STARTED_BY:
        raise VlaError("the process that started this one has ended.", hint)
