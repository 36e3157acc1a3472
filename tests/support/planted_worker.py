"""A worker that runs the real engine, with one fault planted: `python planted_worker.py FAULT FD`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vla_edge.bench import worker
from vla_edge.bench.backends.load import Loaded
from vla_edge.bench.measure.agreement import Actions
from vla_edge.bench.measure.jobs import Job
from vla_edge.bench.report.types import Profile
from vla_edge.runtime.engines.session import Session

HANG_S = 600
CALLS_BEFORE_LATE_FAULT = 25
LEAKED: list[bytes] = []


def nan(session: Session, call: int) -> None:
    session.outputs["actions"][:] = float("nan")


def other_model(session: Session, call: int) -> None:
    session.outputs["actions"][:] = 0.3 - session.outputs["actions"]


def late(session: Session, call: int) -> None:
    """Right for two rounds of the golden samples, wrong later on."""
    if call > CALLS_BEFORE_LATE_FAULT:
        session.outputs["actions"][:] += 0.5


def crash(session: Session, call: int) -> None:
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(3)


def segfault(session: Session, call: int) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(session: Session, call: int) -> None:
    time.sleep(HANG_S)


def orphan(session: Session, call: int) -> None:
    """Leave a child behind that keeps the answer pipe open, and say its process id."""
    child = subprocess.Popen(["sleep", str(HANG_S)], pass_fds=(int(sys.argv[-1]),))
    print(f"child {child.pid}", flush=True)
    os._exit(4)


def fail(session: Session, call: int) -> None:
    raise ValueError("no such tensor: actions")


def chatter(session: Session, call: int) -> None:
    os.write(1, b'{"type": "measured"}\n')


def slow(session: Session, call: int) -> None:
    time.sleep(0.004)


def leak(session: Session, call: int) -> None:
    """Keep 2 MiB of every call, written to, so that the kernel gives them."""
    LEAKED.append(b"\1" * (2 << 20))


def throttled(session: Session, call: int) -> None:
    """As fast as ever at first, then with a quarter of the clock."""
    if call > CALLS_BEFORE_LATE_FAULT:
        time.sleep(0.02)


def sound(session: Session, call: int) -> None:
    """No fault in a step: for faults of what comes after the steps."""


def dying_profile(runs: int) -> Profile:
    print("the profiler took all memory", file=sys.stderr, flush=True)
    os._exit(5)


def failing_profile(runs: int) -> Profile:
    raise RuntimeError("no counters")


def nan_frames(frames: Sequence[Path]) -> Actions:
    return [[[float("nan"), 0.1]] for _ in frames]


def far_frames(frames: Sequence[Path]) -> Actions:
    """An engine that is right on every golden sample, and on no frame of the user's."""
    return [[[5.0, 0.1]] for _ in frames]


def doubled_state(session: Session, call: int) -> None:
    """The actions of each call are right; those of a robot's second would not be."""
    session.outputs["h_out"][:] *= 2


FAULTS = (
    doubled_state,
    leak,
    throttled,
    nan,
    other_model,
    late,
    crash,
    segfault,
    hang,
    orphan,
    fail,
    chatter,
    slow,
)


class FaultySession:
    """The real session, and then the fault."""

    def __init__(self, session: Session, fault: Callable[[Session, int], None]) -> None:
        self._session = session
        self._fault = fault
        self._calls = 0
        self.identity = session.identity
        self.inputs = session.inputs
        self.outputs = session.outputs

    def run(self) -> None:
        self._session.run()
        self._calls += 1
        self._fault(self._session, self._calls)

    def close(self) -> None:
        self._session.close()


def load_with_fault(job: Job) -> Loaded:
    import dataclasses

    fault = next((fault for fault in FAULTS if fault.__name__ == sys.argv[1]), sound)
    loaded = worker.load(job)
    if far_frames.__name__ == sys.argv[1] and job.backend != "torch-fp32":
        loaded = dataclasses.replace(loaded, frames=far_frames)
    for place, planted in (("profile", dying_profile), ("profile", failing_profile), ("frames", nan_frames)):
        if planted.__name__ == sys.argv[1]:
            loaded = dataclasses.replace(loaded, **{place: planted})  # type: ignore[arg-type]
    return dataclasses.replace(loaded, session=FaultySession(loaded.session, fault))


if __name__ == "__main__":
    worker.main(load_with_fault)
