"""Starts the process that builds, shows what it tells, and turns its end into an answer or an error."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from types import FrameType

import msgspec

from vla_edge.export.build.progress import BuildProgress
from vla_edge.runtime import errors
from vla_edge.runtime.control.exits.exit_signals import signal_name
from vla_edge.runtime.errors import EngineError, ResourceError, VlaError
from vla_edge.runtime.files.staging import remove_leftovers
from vla_edge.runtime.process.interrupts import Interrupted, handled_by, uninterrupted

from .memory_watch import INTERVAL_S, MemoryWatch
from .messages import Done, Finished, Job, Logged, Message, Refused, Started, Stepped, decode_message, encode

# Not `-m`, nor a plain `-c`: Python would look for modules in the folder that the user happens to be in.
BUILDER = (
    sys.executable,
    "-c",
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from vla_edge.export.build.process.child import main; main()",
)
# One heap, trimmed, and larger blocks outside of it: what is freed goes back at once. Of 1,154 MiB of weights the peak
# fell from 8,376 to 7,386 MiB by the first two, to 6,980 by the third; 26 s became 31 (H200, TensorRT 10.6).
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_MMAP_THRESHOLD_": "65536",
}
_END_S = 60.0
_REPORT = "Run it again with -v; report it if it happens again."
_MORE_ROOM = (
    "stop other programs (on a Jetson also the desktop: sudo init 3), add swap on fast storage, build in more parts "
    "(--parts)"
)


def build_apart(
    job: Job, watch: MemoryWatch, progress: BuildProgress, builder: Sequence[str] = BUILDER
) -> Done:
    """Build one plan in a process of its own, and wait for its end.

    The process leads a group of its own. What is left of that is killed on the way out, whatever happens; where this
    process is killed itself, the kernel ends the other.

    Args:
        job: what to build.
        watch: reads the process's memory meanwhile.
        progress: is told of the builder's phases.
        builder: the command of the process; the number of its end of the pipe is appended.

    Raises:
        VlaError: what the builder refused, as if it had been built here.
        ResourceError: the process was killed, as the kernel does where memory runs out.
        EngineError: it crashed.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP came; nothing of the process is left.
    """
    ours, theirs = Pipe()
    with ours, _signals() as came:
        with theirs:
            process = _spawn(builder, theirs.fileno())
        try:
            with suppress(OSError):  # ended already: found below, with its exit code
                ours.send_bytes(encode(job))
            answer = _follow(process, ours, watch, progress, came)
            code = process.poll()
        finally:
            _end(process, job)
    if came:
        raise Interrupted(came[0])
    if isinstance(answer, Done):
        return answer
    if isinstance(answer, Refused):
        raise _as_raised(answer)
    raise _unanswered(code, job, watch)


def _spawn(builder: Sequence[str], pipe: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*builder, str(pipe)],
        stdin=subprocess.DEVNULL,
        pass_fds=(pipe,),
        start_new_session=True,  # Ctrl-C is for us, who then end it
        env={**_ALLOCATOR, **os.environ},
    )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Those that came and ask for an end; only the main thread gets any."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    with handled_by(note):
        yield came


def _follow(
    process: subprocess.Popen[bytes],
    pipe: Connection,
    watch: MemoryWatch,
    progress: BuildProgress,
    came: list[int],
) -> Done | Refused | None:
    """Until there is an answer; None where the process ended without one, or is to be ended."""
    while not came:
        watch.sample(process.pid)
        if not pipe.poll(INTERVAL_S):
            continue
        try:
            message = decode_message(pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            _wait_for_end(process, came)
            return None
        except msgspec.DecodeError as error:
            raise EngineError(
                f"the process that builds sent what cannot be read: {error}.", _REPORT
            ) from error
        if isinstance(message, (Done, Refused)):
            return message
        _pass_on(message, progress)
    return None


def _wait_for_end(process: subprocess.Popen[bytes], came: list[int]) -> None:
    """It has closed its pipe; writing a core file takes a while."""
    end_s = time.monotonic() + _END_S
    while process.poll() is None and not came and time.monotonic() < end_s:
        time.sleep(INTERVAL_S)


def _pass_on(message: Message, progress: BuildProgress) -> None:
    match message:
        case Started():
            progress.start(message.phase, message.parent, message.steps)
        case Stepped():
            progress.step(message.phase, message.done)
        case Finished():
            progress.finish(message.phase)
        case Logged():
            logging.getLogger(message.name).log(message.level, "%s", message.text)


def _end(process: subprocess.Popen[bytes], job: Job) -> None:
    """Whatever it has to keep is on the disk once it has answered."""
    with uninterrupted():
        with suppress(ProcessLookupError):  # nothing is left of its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if job.timing_cache is not None and job.timing_cache.parent.is_dir():
            remove_leftovers(job.timing_cache.parent)


def _as_raised(refused: Refused) -> VlaError:
    kind = getattr(errors, refused.error, VlaError)
    error: VlaError = kind(refused.problem, refused.hint)
    return error


def _unanswered(code: int | None, job: Job, watch: MemoryWatch) -> VlaError:
    what = f"the process that built {job.model}"
    if code == -signal.SIGKILL:
        peaks = watch.peaks()
        return ResourceError(
            f"{what} was killed by SIGKILL when it had {peaks.together or peaks.host} MiB: "
            "memory very likely ran out.",
            f"What helps: {_MORE_ROOM}.",
        )
    ways = "closed its pipe" if code is None else f"ended with exit code {code}"
    how = f"was ended by {signal_name(-code)}" if code is not None and code < 0 else ways
    return EngineError(
        f"{what} {how} and gave no answer.",
        "What it said is above. Free device and host memory if it ran out; else try another --level.",
    )
