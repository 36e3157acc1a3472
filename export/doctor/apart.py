"""Work in processes of their own, since drivers and libraries hang, crash and take memory that never comes back.

Forked, not started anew: a check takes milliseconds then, and needs no second command line. So the caller must not
have loaded any engine yet, nor started threads.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NoReturn

import msgspec

from vla_edge.runtime.foreign import words_of
from vla_edge.runtime.process.interrupts import ENDING_SIGNALS, uninterrupted

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20  # of an answer
_READ_BYTES = 1 << 16
_GRACE_S = 1.0  # for the end of a process that has answered
_TOLD, _FAILED = b"+", b"-"


@dataclass(frozen=True)
class Work:
    """What a process does.

    Attributes:
        function: gives what msgspec can write as JSON.
        limit_s: it is killed after so many seconds.
    """

    function: Callable[[], object]
    limit_s: float


@dataclass(frozen=True)
class Failure:
    """No answer came.

    Attributes:
        why: a phrase such as "no answer in 5 s".
        kind: "raised" where the work itself failed, "late" where its time was over, "ended" where its process was.
    """

    why: str
    kind: Literal["raised", "late", "ended"] = "raised"


@dataclass
class _Child:
    pid: int
    pipe: int
    limit_s: float
    ends_s: float
    answer: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None


class Apart:
    """Works that run side by side, each in a process of its own, from the beginning of a `with` block.

    No process outlives the block, but for one that the kernel itself does not let end.
    """

    def __init__(self, works: Sequence[Work]) -> None:
        self._works = works
        self._children: list[_Child] = []

    def __enter__(self) -> Apart:
        try:
            for work in self._works:
                with uninterrupted():  # else a process would run that nobody knows of
                    self._children.append(_start(work))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def answers(self) -> list[bytes | Failure]:
        """Wait for all of them: the JSON of each one's result, in their order, or why there is none."""
        with selectors.DefaultSelector() as selector:
            for child in self._children:
                selector.register(child.pipe, selectors.EVENT_READ, child)
            while waiting := selector.get_map():
                now_s = time.monotonic()
                soonest_s = min(key.data.ends_s for key in waiting.values())
                ready = {key.fd for key, _ in selector.select(max(0.0, soonest_s - now_s))}
                for key in list(waiting.values()):
                    if _is_done(key.data, key.fd in ready):
                        selector.unregister(key.fd)
        return [_result(child) for child in self._children]

    def _end(self) -> None:
        for child in self._children:
            os.close(child.pipe)
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child.pid, signal.SIGKILL)
                _wait(child.pid)


def _start(work: Work) -> _Child:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(work, theirs)
    os.close(theirs)  # before the next fork: an end that others hold too never ends
    return _Child(pid, ours, work.limit_s, time.monotonic() + work.limit_s)


def _be_child(work: Work, pipe: int) -> NoReturn:
    try:
        for number in ENDING_SIGNALS:  # the parent's affair, which ends its children
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(work.limit_s + _GRACE_S))  # where the parent is killed
        verbose = logger.isEnabledFor(logging.INFO)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in range(2 if verbose else 3):
            os.dup2(silence, stream)
        try:
            answer = _TOLD + msgspec.json.encode(work.function())
        except BaseException as error:  # whatever it is, the parent is told
            logger.info("where a check failed:", exc_info=error)
            answer = _FAILED + words_of(error).encode(errors="replace")
        while answer:
            answer = answer[os.write(pipe, answer) :]
    finally:
        os._exit(0)  # without the parent's own tidying up


def _is_done(child: _Child, ready: bool) -> bool:
    if ready:
        piece = os.read(child.pipe, _READ_BYTES)
        child.answer += piece
        if piece and len(child.answer) <= _MOST_BYTES:
            return False
        if piece:
            child.failure = Failure("an answer without end")
        elif not child.answer:
            child.failure = Failure(_end_of(child.pid), "ended")
        return True
    if time.monotonic() < child.ends_s:
        return False
    child.failure = Failure(f"no answer in {child.limit_s:g} s", "late")
    return True


def _result(child: _Child) -> bytes | Failure:
    if child.failure is not None:
        return child.failure
    answer = bytes(child.answer)
    if answer[:1] == _TOLD:
        return answer[1:]
    return Failure(answer[1:].decode(errors="replace"))


def _end_of(pid: int) -> str:
    status = _wait(pid)
    if status is None or not os.WIFSIGNALED(status):
        return "its process ended without an answer"
    return f"its process was ended by {signal.Signals(os.WTERMSIG(status)).name}"


def _wait(pid: int) -> int | None:
    """The status of a process that is about to end; None where it does not."""
    ends_s = time.monotonic() + _GRACE_S
    while time.monotonic() < ends_s:
        with suppress(ChildProcessError):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return status
            time.sleep(0.002)
            continue
        return None
    return None
