"""One backend in a fresh process: started, followed, and its end judged.

A crash, a hang or a kill comes back as `Failed` with its reason, never as an exception.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import IO, TypeVar

import msgspec

from vla_edge.bench.measure.jobs import Entered, Failed, Job, Measured, Message, Rated
from vla_edge.bench.watch.phases import QUIET_PHASES, UNCOUNTED_PHASES, Phase
from vla_edge.runtime.control.exits.exit_signals import signal_name

DEFAULT_WORKER = (sys.executable, "-m", "vla_edge.bench.worker")
SAMPLE_INTERVAL_S = 0.05
QUIET_INTERVAL_S = 1.0
LOG_TAIL_BYTES = 4096
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer", Measured, Rated)


def run_job(
    job: Job,
    kind: type[_Answer],
    worker: Sequence[str] = DEFAULT_WORKER,
    watches: Sequence[Callable[[int, Phase], None]] = (),
    on_phase: Callable[[Phase], None] = lambda phase: None,
) -> _Answer | Failed:
    """Run one job and wait for its end, at most `job.options.time_limit_s`.

    The process leads a group of its own. What is left of the group is killed on the way out, also when
    the caller is interrupted.

    Args:
        job: what to measure.
        kind: of the answer.
        worker: the command of the worker; the number of its end of the pipe is appended.
        watches: told of the process and its phase, again and again.
        on_phase: told of each phase as it begins.
    """
    logger.info("%s: %s", " ".join(worker), job)
    ours, theirs = Pipe()
    with tempfile.TemporaryFile() as log, ours:
        job = msgspec.structs.replace(job, spawned_ns=time.monotonic_ns())
        with theirs:
            process = _spawn(job, worker, theirs.fileno(), log)
        try:
            with suppress(BrokenPipeError):  # ended already: the follower finds it, with its exit code
                ours.send_bytes(msgspec.json.encode(job))
            answer = _Follower(process, ours, log, watches, on_phase).follow(job.options.time_limit_s)
        finally:
            with suppress(ProcessLookupError):  # nothing is left of its group
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return answer if isinstance(answer, (kind, Failed)) else Failed("sent an answer to another job")


def _spawn(job: Job, worker: Sequence[str], pipe: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """With the thread pools fixed before any library reads them, and GPUs hidden from a run on the CPU."""
    hidden = {} if job.options.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*worker, str(pipe)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(pipe,),
        start_new_session=True,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(job.options.threads)), **hidden},
    )


class _Follower:
    """Waits for a worker's result while sampling its memory and the device."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pipe: Connection,
        log: IO[bytes],
        watches: Sequence[Callable[[int, Phase], None]],
        on_phase: Callable[[Phase], None],
    ) -> None:
        self._process = process
        self._pipe = pipe
        self._log = log
        self._watches = watches
        self._on_phase = on_phase
        self._phase: Phase = "start"

    def follow(self, time_limit_s: float) -> Measured | Rated | Failed:
        """The answer, or why there is none; once measured, a profile that is not reached is a note."""
        deadline = time.monotonic() + time_limit_s
        measured: Measured | None = None
        end: Measured | Rated | Failed | None = None
        while end is None and (left_s := deadline - time.monotonic()) > 0:
            self._sample()
            message = self._receive(left_s)
            if isinstance(message, Entered):
                self._phase = message.phase
                self._on_phase(message.phase)
            elif isinstance(message, Measured) and message.profile_follows:
                measured = message
            else:
                end = message
        if end is None:
            reached = f"time limit of {time_limit_s:g} s reached in phase '{self._phase}'"
            end = Failed(self._with_last_words(reached))
        if measured is None or not isinstance(end, Failed):
            return end
        notes = (*measured.row.notes, f"no profile: {end.reason}")
        return msgspec.structs.replace(measured, row=msgspec.structs.replace(measured.row, notes=notes))

    def _sample(self) -> None:
        if self._phase not in UNCOUNTED_PHASES:
            for watch in self._watches:
                watch(self._process.pid, self._phase)

    def _receive(self, left_s: float) -> Message | None:
        """Wait a little for a message; the process's end without a result is one, too."""
        interval_s = QUIET_INTERVAL_S if self._phase in QUIET_PHASES else SAMPLE_INTERVAL_S
        if not self._pipe.poll(min(interval_s, left_s)):
            # the pipe stays open past the worker's end if a child of its own holds it
            if self._process.poll() is None or self._pipe.poll():
                return None
            return Failed(self._with_last_words(self._describe_end()))
        try:
            message: Message = msgspec.json.decode(self._pipe.recv_bytes(), type=Message)
        except (EOFError, ConnectionResetError):
            return Failed(self._with_last_words(self._describe_end()))
        except msgspec.DecodeError as error:
            return Failed(f"sent an answer that cannot be read: {error}")
        return message

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return f"closed its answer pipe in phase '{self._phase}' without a result"
        if code >= 0:
            return f"ended with exit code {code} in phase '{self._phase}' without a result"
        name = signal_name(-code)
        hint = " (often the kernel, out of memory)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint} in phase '{self._phase}'"

    def _with_last_words(self, reason: str) -> str:
        """Append the last line that the process printed: usually what its library complained about."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"{reason}; last line printed: {lines[-1].strip()}" if lines else reason
