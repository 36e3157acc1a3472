"""Whatever happens in whatever order, nothing moves after a fault until somebody resets, nor after the last stop."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loop_parts import PERIOD_S, Bench

from vla_edge.runtime.control.loop.options import RunOptions
from vla_edge.runtime.errors import EngineError, ImageError

RUN_OPTIONS = st.builds(
    RunOptions,
    acceleration=st.sampled_from([None, {"linear_x": 0.5}]),
    smoothing_ms=st.sampled_from([0.0, 80.0]),
    chunk_step_ms=st.sampled_from([None, 40.0]),
    end_on_fault=st.booleans(),
)
SAID = st.sampled_from(
    [
        (0.5, -0.25),
        (0.5, -0.25),
        (9.0, 9.0),
        (math.nan, 0.0),
        (0.1,),
        EngineError("fell over."),
        OSError("odd"),
    ]
)
CHUNKS = st.sampled_from([(), ((0.5, 0.0), (0.4, 0.0), (0.3, 0.0)), ((0.5, 0.0), (math.inf, 0.0)), ((0.1,),)])
PIXELS = st.sampled_from(["lively", "lively", "lively", "dark", "same", "grey", "nothing"])


class Anything(RuleBasedStateMachine):
    """The model: since when a fault stands, by what the controller says, and what was sent since."""

    @initialize(
        options=RUN_OPTIONS, late_allowed=st.sampled_from([0, 1]), hold_ms=st.sampled_from([150.0, 400.0])
    )
    def begin(self, options: RunOptions, late_allowed: int, hold_ms: float) -> None:
        self.bench = Bench(options, late_allowed=late_allowed, hold_ms=hold_ms)
        self.judged = 0
        self.asked_reset = self.ended = False
        self.moved_s = -math.inf

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.05, PERIOD_S, 0.3, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.pass_s(seconds)

    @rule()
    def turn(self) -> None:
        fault, resets = self.bench.controller.fault, self.bench.machine.counts.resets
        sent = len(self.bench.robot.sent)
        if self.bench.turn() == 0 and not self.ended:
            self.stop_for_good()
        new = self.bench.robot.sent[sent:]
        if fault is not None and self.bench.machine.counts.resets == resets:
            assert all(command.stopped for command in new)
        if self.bench.controller.fault is not None and new:
            assert new[-1].stopped

    @rule(kind=PIXELS)
    def frame(self, kind: str) -> None:
        same = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 3, (48, 1, 3))
        pixels = {"lively": None, "dark": np.zeros((48, 64, 3), np.uint8), "same": same, "nothing": None}
        self.bench.frame("no frame" if kind == "nothing" else pixels.get(kind, np.zeros((48, 64), np.uint8)))

    @rule(said=SAID, chunk=CHUNKS)
    def policy_will_say(
        self, said: tuple[float, ...] | Exception, chunk: tuple[tuple[float, ...], ...]
    ) -> None:
        self.bench.values, self.bench.chunk = said, chunk

    @precondition(lambda self: self.bench.jobs)
    @rule()
    def policy_answers(self) -> None:
        self.bench.answer()

    @rule(ticks=st.integers(1, 4))
    def drives(self, ticks: int) -> None:
        if not self.ended and not self.bench.jobs:
            self.bench.values, self.bench.chunk = (0.5, -0.25), ()
            for _ in range(ticks):
                self.frame("lively")
                self.turn()
                if self.bench.jobs:
                    self.bench.pass_s(0.01)
                    self.bench.answer()
                self.turn()
                self.bench.pass_s(PERIOD_S)

    @rule(error=st.sampled_from([OSError("unplugged"), ImageError("damaged."), KeyError("driver")]))
    def camera_fails(self, error: Exception) -> None:
        self.bench.machine.inbox.put_camera_fault(error)

    @rule(jump_s=st.sampled_from([-5.0, -0.01, 0.0, 1.0, math.nan]))
    def clock_jumps(self, jump_s: float) -> None:
        self.bench.jump_s = jump_s

    @rule(broken=st.booleans())
    def driver(self, broken: bool) -> None:
        self.bench.robot.error = OSError("no such bus") if broken else None

    @rule()
    def halted(self) -> None:
        self.bench.controller.halt("emergency button.")

    @rule(refused=st.booleans())
    def somebody_resets(self, refused: bool) -> None:
        self.bench.refuses_reset = EngineError("closed.") if refused else None
        self.bench.machine.inbox.ask_reset()

    @rule(text=st.sampled_from([None, "left", "right"]))
    def another_instruction(self, text: str | None) -> None:
        fault = self.bench.controller.fault
        self.bench.controller.instruct(text)
        assert self.bench.controller.fault == fault

    @rule()
    def camera_ends(self) -> None:
        self.bench.machine.inbox.put_camera_end()

    @rule()
    def parent_dies(self) -> None:
        self.bench.parent = 1

    @precondition(lambda self: not self.ended)
    @rule()
    def stop_for_good(self) -> None:
        broken, self.bench.robot.error = self.bench.robot.error, None
        self.bench.machine.stop_for_good()
        self.bench.robot.error = broken
        self.ended = True
        self.sent_at_end = len(self.bench.robot.sent)

    @invariant()
    def nothing_follows_the_last_stop(self) -> None:
        if self.ended:
            assert len(self.bench.robot.sent) == self.sent_at_end
            assert self.bench.robot.sent[-1].stopped

    @invariant()
    def no_frame_of_another_instruction_is_remembered(self) -> None:
        assert not self.bench.mixed

    @invariant()
    def every_command_is_a_number_within_the_limits(self) -> None:
        sent = self.bench.robot.sent
        for command in sent[self.judged :]:
            assert len(command.values) == 2
            assert all(math.isfinite(value) and abs(value) <= 1.0 for value in command.values)
            assert not command.stopped or command.values == (0.0, 0.0)
        self.judged = len(sent)

    @invariant()
    def the_first_command_was_a_stop_and_a_stop_has_a_reason(self) -> None:
        if self.bench.robot.sent:
            assert self.bench.robot.sent[0].stopped
            assert not self.bench.robot.sent[-1].stopped or self.bench.robot.sent[-1].reason


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = Anything.TestCase
