"""The process that builds one plan, and nothing else in memory.

    python -c "from vla_edge.export.build.process.child import main; main()" FD

reads a `Job` from the pipe FD, sends what happens, and at last `Done` or `Refused`. See `parent.py`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock, Thread

from vla_edge.export.build.network import build_engine
from vla_edge.export.build.target import open_target
from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.runtime.command.failures import in_plain_words
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.process.environment import stand_in_for_missing_user

from .messages import Done, Finished, Job, Logged, Message, Refused, Started, Stepped, decode_job, encode

_log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1  # prctl(2)


class _Told:
    """The parent's ear: a `BuildProgress` and a log, from any thread."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._turn = Lock()

    def send(self, message: Message) -> None:
        with self._turn:
            self._pipe.send_bytes(encode(message))

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        self.send(Started(phase, parent, steps))

    def step(self, phase: str, done: int) -> None:
        self.send(Stepped(phase, done))

    def finish(self, phase: str) -> None:
        self.send(Finished(phase))

    def remark(self, text: str) -> None:
        _log.info("%s", text)


class _LogToParent(logging.Handler):
    def __init__(self, told: _Told) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.send(Logged(record.name, record.levelno, self.format(record)))


def main() -> None:
    """Answer one job. A mistake of ours ends with its traceback on stderr, and without an answer."""
    os.dup2(2, 1)  # what libraries print is not the command's result
    # never closed: what waits for the parent's end would take that for it, before a traceback is out
    pipe = Connection(int(sys.argv[-1]))
    try:
        job = decode_job(pipe.recv_bytes())
    except EOFError:  # the parent is gone before it said what to build: nobody waits for an answer
        sys.exit(1)
    _end_with_parent(job.parent, pipe)
    stand_in_for_missing_user()
    told = _Told(pipe)
    logger = logging.getLogger("vla_edge")
    logger.addHandler(_LogToParent(told))
    logger.setLevel(job.log_level)
    try:
        answer: Message = _build(job, told)
    except Exception as error:
        found = in_plain_words(error)
        if found is None:
            raise
        _log.info("where it was raised:", exc_info=error)
        answer = Refused(type(found).__name__, found.problem, found.hint)
    told.send(answer)


def _build(job: Job, told: _Told) -> Done:
    options = job.options
    with open_target(
        options.backend, options.device_index, options.memory, options.sm, building=True
    ) as target:
        cache = TimingCache(job.timing_cache, f"{target.machine.backend} {target.machine.version}")
        built = build_engine(job.model, target, options, cache, told, job.taps)
        with memoryview(built.plan).cast("B") as image:
            write_atomically(job.plan, lambda file: file.write(image))
        if not job.taps:  # their kernels are not the plan's
            cache.save()
        return Done(built.contents, cache.state)


def _end_with_parent(parent: int, pipe: Connection) -> None:
    """Nobody waits for a plan whose parent is gone, however it went, and its build would hold the memory."""
    with suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before that was asked for
        os._exit(1)
    Thread(target=_end_with_pipe, args=(pipe,), daemon=True).start()


def _end_with_pipe(pipe: Connection) -> None:
    with suppress(EOFError, OSError):  # nothing more is said
        pipe.recv_bytes()
    os._exit(1)


if __name__ == "__main__":
    main()
