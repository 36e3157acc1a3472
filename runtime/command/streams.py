"""stdout and stderr of a command: closed by the caller, without some letters, or left by their reader."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any

_ESCAPING = "vla-edge-escape"  # of Python's codecs


def open_closed_streams() -> None:
    """Give streams that the caller closed (`>&-`) a place that takes and tells nothing.

    Else the next file that is opened gets their number, and what a library prints goes into it.
    """
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  for all its life


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def outlive_readers() -> None:
    """Let the work go on when who reads it leaves, as `| head -1` does; what follows is printed nowhere.

    The work is files, plans and checks; that the first line was enough for somebody is no reason to drop them.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # one that somebody put there, such as a test, is his
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            raw = _Outliving(stream.fileno(), "w", closefd=False)
            outliving = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, outliving)


class _Outliving(io.FileIO):
    """A file whose descriptor is turned to nowhere when its reader has left, or when it failed once."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            # a full disk is told, and not again when the process ends
            if not isinstance(error, BrokenPipeError):
                raise
            return super().write(data)


def plus_minus() -> str:
    """The sign where stdout has it, else "+-"."""
    try:
        "±".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "+-"
    return "±"


def print_any_text() -> None:
    """Let an output that has not all letters, such as an ASCII one, show the others as `\\uXXXX`.

    In the form that JSON has for them, so that JSON stays JSON.
    """
    codecs.register_error(_ESCAPING, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end
