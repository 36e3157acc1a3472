"""Engines and `os.fork`: a child gets a copy of the memory, but neither the engine's threads nor its GPU context.

Whatever frees such a copy, even the interpreter's own tidying up when the child ends, waits for threads that are
not there and dies of it. So a child refuses to use its parent's engines and never frees them.
"""

from __future__ import annotations

import ctypes
import os
import weakref

from vla_edge.runtime.errors import EngineError

_bound: weakref.WeakSet[object] = weakref.WeakSet()


class HomeProcess:
    """The process that an engine belongs to: the one that made this object.

    Args:
        owner: what holds the engine by its attributes, if that is another; in a forked child it is never freed.
    """

    __slots__ = ("_pid",)

    def __init__(self, owner: object = None) -> None:
        self._pid = os.getpid()
        if owner is not None:
            _bound.add(owner)

    @property
    def here(self) -> bool:
        return os.getpid() == self._pid

    def require(self) -> None:
        """Refuse a forked child.

        Raises:
            EngineError: this process is one.
        """
        if os.getpid() != self._pid:
            raise EngineError(
                f"this engine belongs to process {self._pid}, and process {os.getpid()} was forked from that: "
                "the engine's threads and GPU context did not come along.",
                "Load a policy in the child itself, or start processes with multiprocessing's 'spawn'.",
            )


def _keep_for_ever() -> None:
    for owner in list(_bound):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    _bound.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
