"""However a program ends that drives a robot, the robot's stop is called.

    with stop_on_exit(lambda: robot.move(0.0, 0.0), controller):
        while True:
            robot.move(*controller.step(camera.read()).values)

SIGTERM (systemd, `docker stop`), SIGHUP (a closed terminal) and Ctrl-\\ end a Python program without any `finally`,
as does any other signal that nobody handles (a timer's SIGALRM, a limit's SIGXCPU), and Ctrl-Z suspends it: the
robot would keep its last command. Here each of them ends the block as Ctrl-C does.
Nothing can be called on SIGKILL, a crash in native code, `os._exit` or a power cut: for these the motor driver needs
a watchdog of its own, which stops when no command comes.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import opcode
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.foreign import finite_number, shown, words_of
from vla_edge.runtime.process.forked import HomeProcess

from .exit_signals import ASKED, handlers_to_take, signal_name
from .signal_wakeup import SignalWire

_log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAUSE_S = 0.02
_AGAIN_S = 0.005
# Python 3.13 leaves the jump back to a loop's start out of the block around the loop: what is raised there passes
# every `with`, `except` and `finally` of that function by.
_UNCOVERED = (
    {number for name, number in opcode.opmap.items() if name.startswith("JUMP_BACKWARD")}
    if sys.version_info >= (3, 13)
    else set()
)

_wire = SignalWire()
_active: list[StopOnExit] = []


class Haltable(Protocol):
    """What `stop_on_exit` needs of a `Controller`."""

    def halt(self, reason: str) -> None: ...


def stop_on_exit(
    stop: Callable[[], object], controller: Haltable | None = None, *, patience_s: float = 0.5
) -> StopOnExit:
    """A context that stops the robot however it is left: its end, an exception, a signal, the interpreter's exit.

    SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN and SIGTTOU raise KeyboardInterrupt (SIGINT) or
    SystemExit(128 + number) in the block, also as process 1 of a container; one that the program ignores (`nohup`)
    stays ignored, and handlers that it has set are called first and put back at the end. So does every other signal
    that would end the program and that nobody handles, such as SIGUSR1, SIGALRM, SIGXCPU or SIGRTMIN. Where the main
    thread does not leave the block in time, because an engine or a driver hangs or something swallows the exception,
    another thread calls the stop, and the signal is sent again, until it does; of several blocks each one's. Forked
    children never stop the robot.

    Not covered: what no program can answer (SIGKILL, a crash: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
    SIGSYS), `os._exit`, `os.exec*`, which replaces the program without leaving the block, and a signal whose handler
    is replaced inside the block, also by the default action. A hang is not seen beside code that keeps Python's
    `set_wakeup_fd` of its own, as uvloop does, and begins inside the block: enter the block inside its coroutine.

    Args:
        stop: sends the robot a stop; short. It is called again where it raises, may be called more than once, and
            from another thread where the main one hangs.
        controller: halted at the first sign of an end, so that no thread gets a moving command any more.
        patience_s: how long after a signal the main thread has to leave the block by itself.

    Raises:
        InputError: on entering: not in the main thread, where Python handles signals; a signal is handled by
            native code, which would be lost; or the patience is no number of seconds.
    """
    return StopOnExit(stop, controller, patience_s)


class StopOnExit:
    """See `stop_on_exit`. Entered once."""

    def __init__(self, stop: Callable[[], object], controller: Haltable | None, patience_s: float) -> None:
        if (finite_number(patience_s) or 0.0) <= 0:
            raise InputError(f"patience_s={shown(patience_s)} is no time to wait.", "Give seconds above 0.")
        self._stop, self._controller, self._patience_s = stop, controller, patience_s
        self._earlier: dict[int, Any] = {}
        self._driving = False  # a signal raises in the block only
        self._raised = False  # and once: the code that leaves the block is not interrupted again
        self._insisting = False
        self._missed = False  # it came at an instruction at which nothing may be raised
        self._told: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # takes news in a handler too
        self._signal: int | None = None
        self._left = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._handlers_are_ours = threading.Lock()  # held while the other thread insists, and while that ends

    def __enter__(self) -> StopOnExit:
        _require_main_thread()
        found = handlers_to_take(_is_of_a_block)
        self._home = HomeProcess()
        self._main = threading.get_ident()
        try:
            threading.Thread(target=self._watch, name="stop-on-exit", daemon=True).start()
            self._take_over(found)
        except BaseException:
            self._put_back(stopped=True)
            raise
        self._driving = True
        if self._signal is not None:
            self.__exit__(None, None, None)
        return self

    def _take_over(self, found: dict[int, Any]) -> None:
        atexit.register(self._at_exit)
        _active.append(self)
        for number, earlier in found.items():
            self._earlier[number] = earlier
            signal.signal(number, self._on_signal)
        _wire.connect(self._hear)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._driving = False
        if not self._home.here:
            return
        self._halt("the program leaves the block that drives the robot.")
        failure, interrupt = self._stop_surely()
        self._put_back(stopped=failure is None)
        for raised in (failure, interrupt):
            if raised is not None:
                raise raised
        if self._signal is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise _end_by(self._signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Python calls this in the main thread, between two of its instructions."""
        if not self._home.here:  # forked by code that does not tell Python
            signal.signal(number, self._earlier[number])
            signal.raise_signal(number)
            return
        if self._signal is None:
            self._told.put(number)
        self._signal = number
        self._halt(f"the program was told to end by {signal_name(number)}.")
        insisting, self._insisting = self._insisting, False
        if not self._driving or _is_ours(frame) or (self._raised and not insisting):
            return
        if _is_uncovered(frame) and not insisting:
            self._missed = True
            return
        self._raised = True
        earlier = self._earlier[number]
        if callable(earlier) and earlier is not signal.default_int_handler and not insisting:
            earlier(number, frame)
        raise _end_by(number)

    def _hear(self, number: int) -> None:
        """The wire's thread calls this, also while the main thread is inside an engine."""
        # One that the program handles itself since is its own, unless it is one that asks it to end.
        if number in self._earlier and (number in ASKED or _is_of_a_block(signal.getsignal(number))):
            self._told.put(number)

    def _watch(self) -> None:
        """The other thread: waits for a signal, then sees to it that the block is left."""
        number = self._told.get()
        if number is None:
            return
        self._halt(f"the program was told to end by {signal_name(number)}.")
        while not self._is_left_in_time(number):
            self._stop_surely()
            _log.warning(
                "the main thread did not come back within %g s of %s: the robot was stopped without it",
                self._patience_s,
                signal_name(number),
            )
            self._send_again(number, insisting=True)

    def _is_left_in_time(self, number: int) -> bool:
        end_s = time.monotonic() + self._patience_s
        while (rest_s := end_s - time.monotonic()) > 0:
            if self._left.wait(min(rest_s, _AGAIN_S)):
                return True
            if self._missed:
                self._missed = False
                self._send_again(number)
        return False

    def _send_again(self, number: int, insisting: bool = False) -> None:
        """To the main thread, unless it has left: the handlers of before would end the program by the signal itself."""
        with self._handlers_are_ours:
            if not self._left.is_set():
                self._insisting = self._insisting or insisting
                signal.pthread_kill(self._main, number)

    def _halt(self, reason: str) -> None:
        if self._controller is not None:
            with contextlib.suppress(Exception):  # the robot's own stop comes next, whatever this one does
                self._controller.halt(reason)

    def _stop_surely(self) -> tuple[Exception | None, BaseException | None]:
        """Call the stop until it returns.

        Returns:
            Its last error if it never did, and what else was raised meanwhile, such as by a signal's handler.
        """
        failure, interrupt = None, None
        # Not for ever: the other thread's stop may hang, and this one may not.
        alone = self._one_at_a_time.acquire(timeout=self._patience_s)
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    time.sleep(_PAUSE_S)
                self._stop()
                failure = None
                break
            except Exception as error:
                failure = error
            except BaseException as error:
                interrupt = error
        else:
            failure = failure or RuntimeError("the robot's stop was interrupted at every attempt")
        if alone:
            self._one_at_a_time.release()
        if failure is not None:
            _log.critical(
                "THE ROBOT MAY BE MOVING: its stop failed %d times: %s", _ATTEMPTS, words_of(failure)
            )
        return failure, interrupt

    def _put_back(self, *, stopped: bool) -> None:
        with self._handlers_are_ours:
            self._left.set()
        if stopped:
            atexit.unregister(self._at_exit)
        if self in _active:
            _active.remove(self)
        _wire.disconnect(self._hear)
        self._restore()
        self._told.put(None)

    def _restore(self) -> None:
        for number, earlier in self._earlier.items():
            later = next((block for block in _active if block._earlier.get(number) == self._on_signal), None)
            if later is None:
                signal.signal(number, earlier)
            else:  # it was entered inside this block, is left after it, and drives on
                later._earlier[number] = earlier

    def _at_exit(self) -> None:
        """The block was never left: a generator or an ExitStack that nobody closed, or its stop failed."""
        self._driving = False
        if self._home.here:
            self._halt("the interpreter ends.")
            self._stop_surely()

    def leave_to_parent(self) -> None:
        """In a forked child: its signals and its exit are not the robot's."""
        self._driving = False
        atexit.unregister(self._at_exit)
        self._restore()


_OURS = frozenset(
    function.__code__ for function in (StopOnExit.__enter__, StopOnExit.__exit__, StopOnExit._at_exit)
)


def _is_ours(frame: FrameType | None) -> bool:
    """Whether the interrupted code is the entering or leaving itself: an exception there would lose the stop."""
    while frame is not None:
        if frame.f_code in _OURS:
            return True
        frame = frame.f_back
    return False


def _is_of_a_block(handler: object) -> bool:
    return isinstance(getattr(handler, "__self__", None), StopOnExit)


def _is_uncovered(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] in _UNCOVERED


def _end_by(number: int) -> BaseException:
    """As shells and supervisors count it. Python ends by SIGINT itself after a KeyboardInterrupt."""
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise InputError(
            "stop_on_exit was entered in a thread that is not the main one: Python handles signals there only.",
            "Enter it in the main thread, around all that starts the others.",
        )


def _after_fork_in_child() -> None:
    _wire.leave_to_parent()
    while _active:  # the innermost one first, so that the handlers of before them all come back
        _active.pop().leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
