"""What is shown of a build, and how Ctrl-C ends one."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from plan_builds import ADA, left_in
from rich.console import Console

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.progress import ShownProgress, Silent, make_monitor, run_interruptibly
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.process.interrupts import Interrupted


def test_phases_are_reported(bundle: Bundle) -> None:
    class Counting(Silent):
        def __init__(self) -> None:
            self.open: list[str] = []
            self.phases: set[str] = set()
            self.steps = 0

        def start(self, phase: str, parent: str | None, steps: int) -> None:
            self.open.append(phase)
            self.phases.add(phase)

        def step(self, phase: str, done: int) -> None:
            self.steps += 1

        def finish(self, phase: str) -> None:
            self.open.remove(phase)

    seen = Counting()
    build_plan(bundle, ADA, seen)
    assert seen.steps > 10
    assert len(seen.phases) > 3
    assert not seen.open


def test_off_a_terminal_progress_is_one_line_per_phase() -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, record=True)
        with ShownProgress(console) as shown:
            shown.start("Building engine", None, 3)
            shown.start("Timing", "Building engine", 2)
            shown.start("Deep", "Timing", 2)
            shown.step("Building engine", 1)
            shown.finish("Building engine")
        assert console.export_text() == "Building engine\n  Timing\n"


def test_on_a_terminal_progress_is_bars() -> None:
    with (
        Path(os.devnull).open("w") as nowhere,
        ShownProgress(Console(file=nowhere, force_terminal=True)) as shown,
    ):
        shown.start("Building engine", None, 3)
        shown.step("Building engine", 1)
        shown.step("never started", 1)
        shown.finish("Building engine")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_builder_and_leaves_nothing(bundle: Bundle, number: signal.Signals) -> None:
    class Interrupting(Silent):
        sent = False

        def step(self, phase: str, done: int) -> None:
            if not self.sent and phase != "Hashing weights":
                self.sent = True
                os.kill(os.getpid(), number)
                threading.Event().wait(0.5)  # longer than the main thread takes to notice

    with pytest.raises(Interrupted) as ended:
        build_plan(bundle, ADA, Interrupting())
    assert ended.value.exit_code == 128 + number
    assert left_in(bundle) == []
    assert build_plan(bundle, ADA).fresh


def test_an_error_in_the_build_thread_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        run_interruptibly(fail, make_monitor(load_library("tensorrt-rtx").trt, Silent()))
