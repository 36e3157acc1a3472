"""A loop without threads: a clock that passes when told, a policy that answers when told, a robot that remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from vla_edge.runtime.control.command import Command
from vla_edge.runtime.control.controller import Controller, ControllerOptions
from vla_edge.runtime.control.loop.inbox import Shot
from vla_edge.runtime.control.loop.machine import Limits, Machine
from vla_edge.runtime.control.loop.options import RunOptions

NAMES = ("linear_x", "linear_y")
PERIOD_S = 0.125  # sums of it are exact


class Robot:
    """Remembers every command; raises `error` while there is one."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.error: Exception | None = None

    def send(self, command: Command) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(command)

    @property
    def moving(self) -> int:
        return sum(not command.stopped for command in self.sent)


class Bench:
    """A machine on a bench: what happens is what its methods are called for.

    Attributes:
        jump_s: by which the controller's clock is off from the loop's.
        values: that the policy says next; an exception is raised.
        chunk: that it predicts beside.
        mixed: whether the policy was asked to follow an instruction while it remembered another one's frames.
    """

    def __init__(
        self, options: RunOptions | None = None, rate_hz: float = 1 / PERIOD_S, **controlled: Any
    ) -> None:
        self.now_s, self.jump_s = 100.0, 0.0
        self.parent = 7
        self.values: tuple[float, ...] | BaseException = (0.5, -0.25)
        self.chunk: tuple[tuple[float, ...], ...] = ()
        self.resets = 0
        self.mixed = False
        self._remembers: tuple[str | None, ...] = ()
        self.refuses_reset: Exception | None = None
        self.robot = Robot()
        self.jobs: list[Shot] = []
        self._rng = np.random.default_rng(0)
        spec = SimpleNamespace(names=NAMES, limit=(1.0, 1.0), units=("m/s", "m/s"))
        policy: Any = SimpleNamespace(manifest=SimpleNamespace(action=spec), act=self._act, reset=self._reset)
        given = ControllerOptions(
            **{"real_time_factor": None, "deadline_ms": 100.0, "hold_ms": 400.0} | controlled
        )
        self.controller = Controller(policy, given, lambda: self.now_s + self.jump_s)
        hold_s = (given.hold_ms or 2 * given.deadline_ms) / 1e3
        limits = Limits(NAMES, (1.0, 1.0), given.deadline_ms / 1e3, hold_s, given.late_allowed > 0, 1.0)
        self.machine = Machine(
            self.controller,
            self.robot,
            rate_hz,
            options or RunOptions(),
            limits,
            self.jobs.append,
            lambda: self.now_s,
            lambda: self.parent,
        )
        self.machine.begin()

    @property
    def state(self) -> str:
        return self.machine.state.value

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def turn(self) -> float:
        return self.machine.turn()

    def frame(self, pixels: Any = None) -> None:
        """The camera gives a frame."""
        lively = self._rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        self.machine.inbox.put_frame(
            lively if pixels is None else pixels, self.now_s + self.jump_s, self.now_s
        )

    def answer(self) -> None:
        """The policy is done with the frame that it was given."""
        shot = self.jobs.pop()
        self.controller.step(shot.frame, None, shot.captured_s)
        self.machine.inbox.put_answer(shot.number)

    def drive(self, ticks: int = 1, takes_s: float = 0.03125) -> None:
        """So many good ticks: a frame each, an answer in time."""
        for _ in range(ticks):
            self.frame()
            self.turn()
            self.pass_s(takes_s)
            if self.jobs:
                self.answer()
            self.turn()
            self.pass_s(PERIOD_S - takes_s)

    def _act(self, frame: Any, instruction: str | None = None) -> Any:
        self.mixed |= self._remembers not in ((), (instruction,))
        self._remembers = (instruction,)
        if isinstance(self.values, BaseException):
            raise self.values
        return SimpleNamespace(names=NAMES, values=self.values, chunk=self.chunk or (self.values,))

    def _reset(self) -> None:
        if self.refuses_reset is not None:
            raise self.refuses_reset
        self._remembers = ()
        self.resets += 1
