"""Which signals would end or suspend this program, and who handles them so far."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla_edge.runtime.errors import InputError


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(int(getattr(signal, name)) for name in names if hasattr(signal, name))  # some lack some


# What a supervisor, a terminal or its keys send.
ASKED = _numbers("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")
# Cannot be caught; ignored by default; or a crash, after which the program's memory cannot be trusted.
_LEFT_ALONE = _numbers(
    "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGINFO"
) | _numbers("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGEMT")


def signal_name(number: int) -> str:
    """Its name; of a real-time signal between the first and the last its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def handlers_to_take(is_ours: Callable[[object], bool]) -> dict[int, Any]:
    """The signals to take over, with their handlers so far.

    What the program ignores stays ignored. Of those that nobody sends to end a program, one that has a handler,
    of Python or of a library's native code, is that one's.

    Args:
        is_ours: whether a handler is that of another block, which this one shares its signals with.

    Raises:
        InputError: one that asks the program to end is handled by native code.
    """
    caught, ignored = _natively("SigCgt"), _natively("SigIgn")
    found = {}
    for number in signal.valid_signals() - _LEFT_ALONE:
        earlier = signal.getsignal(number)
        native = earlier is None or (earlier is signal.SIG_DFL and number in caught)
        if earlier is signal.SIG_IGN or (earlier is signal.SIG_DFL and number in ignored):
            continue
        if number in ASKED and native:
            raise InputError(
                f"{signal_name(number)} is handled by native code already, which stop_on_exit would cut off.",
                "Enter stop_on_exit first; or keep that code from it, such as with "
                "rclpy.init(signal_handler_options=SignalHandlerOptions.NO).",
            )
        if number in ASKED or is_ours(earlier) or (earlier is signal.SIG_DFL and not native):
            found[int(number)] = earlier
    return found


def _natively(field: str) -> frozenset[int]:
    """What the kernel says; Python does not learn of handlers that native code sets after its start."""
    with contextlib.suppress(OSError, ValueError):  # not Linux
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                mask = int(value, 16)
                return frozenset(number for number in range(1, 65) if mask >> (number - 1) & 1)
    return frozenset()
