"""The measuring process: one backend of one bundle, and nothing else in memory.

    python -m vla_edge.bench.worker FD

reads a `Job` from standard input, and sends `Entered` for each phase and then one `Measured` or `Failed`
to the pipe FD. See `process.py` for the parent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import msgspec

from vla_edge.runtime.errors import VlaError

from .backends import Loaded, import_libraries, load
from .jobs import Entered, Failed, Job, Measured, Message, Phase
from .measure import Budget, collect, warm_up
from .memory import read_host
from .parity import ActionErrors
from .report import Identity, Samples, Warmup
from .workload import PolicyStep

Load = Callable[[Job], Loaded]


def main(load_backend: Load = load) -> None:
    """Answer one job; any exception becomes the reason of a failure.

    Args:
        load_backend: opens the job's backend.
    """
    started_ns = time.monotonic_ns()
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Connection(int(sys.argv[-1]), readable=False) as answers:

        def send(message: Message) -> None:
            answers.send_bytes(msgspec.json.encode(message))

        try:
            send(_measure(job, load_backend, started_ns, lambda phase: send(Entered(phase))))
        except VlaError as error:
            send(Failed(f"{error.problem} {error.mend}".strip()))
        except Exception as error:
            traceback.print_exc()
            send(Failed(f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """The parent holds standard input open while it lives; without it nobody waits for the result."""
    # not through `sys.stdin`: its lock, held by this thread, would make an ordinary end of the process fail
    while os.read(0, 4096):
        pass
    os._exit(1)


def _measure(job: Job, load_backend: Load, started_ns: int, enter: Callable[[Phase], None]) -> Measured:
    clock = _Laps(started_ns)
    enter("import")
    import_libraries(job.backend)
    import_s = clock.lap_s()
    enter("load")
    loaded = load_backend(job)
    load_s = clock.lap_s()
    golden = loaded.golden()
    step = PolicyStep(loaded.session, golden, loaded.state)
    errors = ActionErrors(golden["actions"], loaded.action_scale)
    clock.lap_s()  # the samples are the bench's, not a robot's
    enter("first call")
    step()
    first_call_s = clock.lap_s()
    warmup, samples = _sample(loaded, step, errors, Budget(job.runs, job.seconds, job.warmup), enter)
    identity = loaded.session.identity
    peak = loaded.torch_allocator_peak_mib()
    loaded.close()
    return Measured(
        identity=msgspec.convert(identity, Identity, from_attributes=True),
        samples=samples,
        warmup=warmup,
        parity=errors.summary(),
        interpreter_s=(started_ns - job.spawned_ns) / 1e9,
        import_s=import_s,
        load_s=load_s,
        first_call_s=first_call_s,
        host_memory=read_host(),
        torch_allocator_peak_mib=peak,
        notes=loaded.notes,
    )


def _sample(
    loaded: Loaded, step: PolicyStep, errors: ActionErrors, budget: Budget, enter: Callable[[Phase], None]
) -> tuple[Warmup, Samples]:
    """Warm-up, timed calls, golden samples that are left, then `Policy.act` where the backend is an engine."""
    enter("warm-up")
    warmup = warm_up(step, budget)
    enter("measure")
    step_ms = collect(step, budget)
    device_ms = loaded.device_ms(len(step_ms))
    enter("parity")
    for _ in range(len(step) - 1 - warmup.calls - len(step_ms)):
        step()
    step.check(errors)
    act_ms: list[float] = []
    if loaded.act is not None and errors.summary().finite:
        enter("act")
        warm_up(loaded.act, budget)
        act_ms = collect(loaded.act, budget)
    return warmup, Samples(step_ms=tuple(step_ms), act_ms=tuple(act_ms), device_ms=tuple(device_ms))


class _Laps:
    """Seconds between calls, beginning at a time of `time.monotonic_ns`."""

    def __init__(self, start_ns: int) -> None:
        self._last_ns = start_ns

    def lap_s(self) -> float:
        now_ns = time.monotonic_ns()
        elapsed_s = (now_ns - self._last_ns) / 1e9
        self._last_ns = now_ns
        return elapsed_s


if __name__ == "__main__":
    main()
