"""TensorRT's progress monitor, and a build that Ctrl-C can stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import TaskID

from vla_edge.export.screen.progress import bars, note
from vla_edge.runtime.process.interrupts import Interrupted, handled_by

_Result = TypeVar("_Result")
_JOIN_SECONDS = 0.2
# Deeper phases come and go thousands of times a build.
_DEEPEST_SHOWN = 2


class BuildProgress(Protocol):
    """Is told of the phases of a build, from any thread. Phases nest; `parent` is None for the outermost."""

    def start(self, phase: str, parent: str | None, steps: int) -> None: ...

    def step(self, phase: str, done: int) -> None: ...

    def finish(self, phase: str) -> None: ...

    def remark(self, text: str) -> None:
        """Something to know meanwhile, such as what is to be built."""


class Silent:
    """Shows nothing."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        return None

    def step(self, phase: str, done: int) -> None:
        return None

    def finish(self, phase: str) -> None:
        return None

    def remark(self, text: str) -> None:
        return None


class ShownProgress:
    """Bars on a terminal, one line per phase elsewhere. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = bars(console)
        self._tasks: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}

    def __enter__(self) -> ShownProgress:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        depth = self._depths.get(parent, -1) + 1 if parent else 0
        self._depths[phase] = depth
        if depth > _DEEPEST_SHOWN:
            return
        if self._console.is_terminal:
            self._tasks[phase] = self._bars.add_task("  " * depth + phase, total=steps)
        elif depth < _DEEPEST_SHOWN:
            note(self._console, "  " * depth + phase)

    def step(self, phase: str, done: int) -> None:
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=done)

    def finish(self, phase: str) -> None:
        task = self._tasks.pop(phase, None)
        self._depths.pop(phase, None)
        if task is not None:
            self._bars.remove_task(task)

    def remark(self, text: str) -> None:
        note(self._console, text)


class Cancellable(Protocol):
    """What `run_interruptibly` asks to stop."""

    def cancel(self) -> None: ...


def make_monitor(trt: Any, progress: BuildProgress) -> Any:
    """A `trt.IProgressMonitor` that reports to `progress` and has a method `cancel`."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._cancelled = False

        def cancel(self) -> None:
            """Make TensorRT stop at the end of the step that it is in."""
            self._cancelled = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step + 1)
            return not self._cancelled

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


def run_interruptibly(work: Callable[[], _Result], monitor: Cancellable) -> _Result:
    """Run `work` in a thread, so that the main thread can receive Ctrl-C meanwhile.

    Python handles signals in the main thread only, between two of its instructions: not while TensorRT has
    it. And it must not raise inside one of TensorRT's callbacks, so Ctrl-C only asks to stop.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP came; the work has stopped.
        Exception: what `work` raised.
    """
    results: list[_Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="tensorrt-build")
    with _cancelling_on_signals(monitor) as came:
        thread.start()
        while thread.is_alive():
            thread.join(_JOIN_SECONDS)
    if came:
        raise Interrupted(came[0])
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def _cancelling_on_signals(monitor: Cancellable) -> Iterator[list[int]]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request to stop; the list holds those that came.

    Only the main thread gets signals.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        monitor.cancel()

    with handled_by(handle):
        yield came
