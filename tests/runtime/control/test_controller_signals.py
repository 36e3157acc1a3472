"""Signals at random moments of a control loop: nothing blocks, and nothing moves once a handler has halted."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each round drives until a handler, called by the kernel's timer at a random moment, halts or interrupts.
ROUNDS = """
import logging, random, signal, sys, traceback
from types import SimpleNamespace
from vla_edge.runtime.control.controller import Controller, ControllerOptions

logging.basicConfig(stream=open("/dev/null", "w"))
action = SimpleNamespace(names=("linear_x", "linear_y"), values=(0.5, -0.5))
spec = SimpleNamespace(names=action.names, limit=(1.0, 1.0))
policy = SimpleNamespace(
    manifest=SimpleNamespace(action=spec), act=lambda frame, instruction: action, reset=lambda: None
)
controller = Controller(policy, ControllerOptions(deadline_ms=1e6))
halted = False

def halt(number, frame):
    global halted
    controller.halt("emergency button.")
    halted = True

def interrupt(number, frame):
    raise KeyboardInterrupt

rng = random.Random(int(sys.argv[2]))
again_s = 5e-5 if sys.argv[1] == "halt" else 0
signal.signal(signal.SIGALRM, halt if sys.argv[1] == "halt" else interrupt)

def drive():
    after = 0
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 4e-4), again_s)
    while after < 10:  # signals go on while the first stops are given and logged
        before = halted
        command = (controller.step, lambda frame: controller.current())[rng.random() < 0.5]("frame")
        if before and not command.stopped:
            sys.exit("moved after a halt")
        after += before

for at in range(1500):
    halted = False
    controller.reset()
    try:
        drive()  # a function of its own: Python 3.13 leaves a loop's jump back out of the block around it
    except KeyboardInterrupt as error:
        frames = (frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__))
        if {"_started", "_judge", "_values", "_now", "_current"} & set(frames) and not controller.fault:
            sys.exit("the interrupt was not latched")
    signal.setitimer(signal.ITIMER_REAL, 0)
    if sys.argv[1] == "halt" and controller.fault != "emergency button.":
        sys.exit(f"the fault is {controller.fault!r}")
print("rounds", at + 1)
"""


@pytest.mark.parametrize("handler", ["halt", "interrupt"])
def test_signals_at_random_moments_neither_block_nor_get_lost(handler: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, handler, "1"], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "rounds 1500\n"


def test_a_halt_in_the_middle_of_every_line_of_a_step_holds() -> None:
    """Without threads or timers: a tracer calls `halt` before each line that one step runs."""
    from types import SimpleNamespace

    from vla_edge.runtime import foreign
    from vla_edge.runtime.control import controller as module
    from vla_edge.runtime.control import latch
    from vla_edge.runtime.control.controller import Controller, ControllerOptions

    action = SimpleNamespace(names=("x",), values=(0.5,))
    manifest = SimpleNamespace(action=SimpleNamespace(names=("x",), limit=(1.0,)))
    policy = SimpleNamespace(manifest=manifest, act=lambda frame, instruction: action, reset=lambda: None)
    files = {module.__file__, latch.__file__, foreign.__file__}

    def drive(target: int) -> int:
        controller = Controller(policy, ControllerOptions(deadline_ms=1e6))  # type: ignore[arg-type]
        controller.step("frame")
        seen = 0

        def trace(frame: object, event: str, argument: object) -> object:
            nonlocal seen
            if frame.f_code.co_filename not in files:  # type: ignore[attr-defined]
                return None
            if event == "line":
                seen += 1
                if seen == target:
                    controller.halt("emergency button.")
            return trace

        before = sys.gettrace()
        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            controller.step("frame")
        finally:
            sys.settrace(before)
        if seen >= target:
            assert controller.fault == "emergency button."
            assert controller.current().stopped
            assert controller.step("frame").stopped
        return seen

    lines = drive(10**9)
    assert lines > 20
    for target in range(1, lines + 1):
        drive(target)
