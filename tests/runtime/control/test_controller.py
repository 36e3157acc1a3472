"""The controller: every fault is a stop with its reason until reset; late, stale or wild actions never pass."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_bundles import tiny_manifest

from vla_edge.runtime.action import Action, ActionDecoder
from vla_edge.runtime.control.controller import Command, Controller, ControllerOptions
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.errors import EngineError, ImageError, InputError

IDENTITY = EngineIdentity("onnxruntime", "1", "cpu", "CPU", "fp32", "fp32", "tiny 0")


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_ms(self, milliseconds: float) -> None:
        self.now += milliseconds / 1e3


class ScriptedPolicy:
    """Returns what it is told, after the time that it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.manifest = tiny_manifest([])
        self.output = np.array([[0.1, -0.2]], np.float32)
        self.takes_ms = 10.0
        self.error: BaseException | None = None
        self.resets = 0
        self.calls = 0

    def act(self, frame: Any, instruction: str | None = None) -> Action:
        self.calls += 1
        self.clock.pass_ms(self.takes_ms)
        if self.error is not None:
            raise self.error
        decode = ActionDecoder(self.manifest.action)
        return decode(self.output, instruction=instruction or "go", engine=IDENTITY, timings_ms={})

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> ScriptedPolicy:
    return ScriptedPolicy(clock)


def make(policy: ScriptedPolicy, **options: Any) -> Controller:
    return Controller(policy, ControllerOptions(**{"real_time_factor": None} | options), policy.clock)


def assert_stop(command: Command, words: str) -> None:
    assert command.stopped
    assert command.values == (0.0, 0.0)
    assert words in command.reason


def test_a_good_action_passes(policy: ScriptedPolicy) -> None:
    command = make(policy).step("frame")
    assert command.values == pytest.approx((0.2, -0.4))
    assert (command.stopped, command.reason) == (False, "")
    assert command.latency_ms == pytest.approx(10)
    assert command.action is not None


def test_limits_narrow_those_of_the_manifest(policy: ScriptedPolicy) -> None:
    policy.output[...] = 5
    assert make(policy).step("frame").values == (1.15, 1.15)
    assert make(policy, limits={"linear_y": 0.3}).step("frame").values == (1.15, 0.3)


@pytest.mark.parametrize(
    "limits",
    [{"linear_x": 2.0}, {"linear_x": 0.0}, {"linear_x": -1.0}, {"linear_x": math.nan}, {"linear_x": "1"}],
)
def test_a_limit_that_is_wider_or_not_positive_is_refused(
    policy: ScriptedPolicy, limits: dict[str, float]
) -> None:
    with pytest.raises(InputError, match=r"linear_x is not within 0 and the manifest's 1\.15"):
        make(policy, limits=limits)


def test_a_limit_of_an_unknown_component_is_refused(policy: ScriptedPolicy) -> None:
    with pytest.raises(InputError, match="'angular_z'"):
        make(policy, limits={"angular_z": 1})


@pytest.mark.parametrize(
    "options",
    [
        *({"deadline_ms": bad} for bad in (0, math.nan, math.inf, "100", None, True, 10**400)),
        *({"hold_ms": bad} for bad in (-1, 0, math.inf, "1")),
        *({"late_allowed": bad} for bad in (-1, 0.5, math.nan, None)),
    ],
)
def test_times_that_make_no_sense_are_refused(policy: ScriptedPolicy, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        make(policy, **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_action_that_is_not_finite_stops_the_robot(policy: ScriptedPolicy, value: float) -> None:
    policy.output[0, 1] = value
    assert_stop(make(policy).step("frame"), "not finite")


def test_a_policy_that_passes_nan_on_is_stopped_too(policy: ScriptedPolicy) -> None:
    policy.act = lambda frame, instruction=None: SimpleNamespace(values=(math.nan, 0.0))  # type: ignore[method-assign,assignment,return-value]
    assert_stop(make(policy).step("frame"), "the policy returned (nan, 0.0)")


def test_an_action_of_another_size_stops_the_robot(policy: ScriptedPolicy) -> None:
    policy.act = lambda frame, instruction=None: SimpleNamespace(values=(0.1,))  # type: ignore[method-assign,assignment,return-value]
    assert_stop(make(policy).step("frame"), "the policy returned (0.1,)")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EngineError("CUDA's cuGraphLaunch failed.", "Restart."), "cuGraphLaunch failed"),
        (ImageError("the frame is grey.", ""), "the frame is grey"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_fault_stops_and_stays_until_reset(policy: ScriptedPolicy, error: Exception, words: str) -> None:
    controller = make(policy)
    policy.error = error
    assert_stop(controller.step("frame"), words)
    policy.error = None
    calls = policy.calls
    for _ in range(3):
        assert_stop(controller.step("frame"), words)
    assert policy.calls == calls  # the engine is left alone meanwhile
    assert controller.fault is not None
    controller.reset()
    assert policy.resets == 1
    assert not controller.step("frame").stopped


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()]
)
def test_what_is_no_exception_is_latched_before_it_passes(
    policy: ScriptedPolicy, error: BaseException
) -> None:
    controller = make(policy)
    assert not controller.step("frame").stopped
    policy.error = error
    with pytest.raises(type(error)):
        controller.step("frame")
    assert_stop(controller.current(), type(error).__name__)
    policy.error = None
    assert_stop(controller.step("frame"), type(error).__name__)
    controller.reset()
    assert not controller.step("frame").stopped


class Mute(Exception):
    """Says nothing of itself."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class MuteVla(EngineError):
    def __init__(self) -> None:
        Exception.__init__(self)  # so there is no `problem`


class Rude(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [Mute(), MuteVla(), RecursionError(), MemoryError()])
def test_an_exception_without_a_text_stops_the_robot(policy: ScriptedPolicy, error: Exception) -> None:
    controller = make(policy)
    policy.error = error
    command = controller.step("frame")
    assert_stop(command, "")
    assert command.reason
    assert_stop(controller.current(), command.reason)


def test_an_exception_whose_text_is_an_interrupt_is_latched_first(policy: ScriptedPolicy) -> None:
    controller = make(policy)
    controller.step("frame")
    policy.error = Rude()
    with pytest.raises(KeyboardInterrupt):
        controller.step("frame")
    assert_stop(controller.current(), "interrupted")


class Broken:
    """Raises at every attribute."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is gone")


def said(values: Any, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(values=values, **more)


@pytest.mark.parametrize(
    "action",
    [
        None,
        object(),
        Broken(),
        Mute(),
        (0.1, 0.2),
        said(None),
        said((None, 0.1)),
        said((None,)),
        said(()),
        said((0.1, 0.2, 0.3)),
        said("ab"),
        said(("0.1", "0.2")),
        said((True, False)),
        said((0.1, 1j)),
        said((10**400, 0.1)),
        said((10**5000, 0.1)),
        said(value for value in (0.1, 0.2)),
        said({0.1: 1, 0.2: 2}),
        said(np.array([[0.1, 0.2]])),
        said((np.float32("nan"), np.float32(0.1))),
        said((np.array([0.1]), 0.1)),
        said((Mute(), 0.1)),
        said(Mute()),
        said((0.1, 0.2), names=("linear_y", "linear_x")),
        said((0.1, 0.2), names=("linear_x",)),
        said((0.1, 0.2), names=None),
    ],
    ids=lambda action: type(action).__name__,
)
def test_an_action_that_is_none_stops_the_robot(policy: ScriptedPolicy, action: Any) -> None:
    controller = make(policy)
    assert not controller.step("frame").stopped
    policy.act = lambda frame, instruction=None: action  # type: ignore[method-assign]
    command = controller.step("frame")
    assert_stop(command, "")
    assert controller.fault == command.reason != ""
    assert_stop(controller.current(), command.reason)


@pytest.mark.parametrize("values", [[0.1, 0.2], (np.float32(0.1), np.float64(0.2)), (0, 1)])
def test_numbers_of_any_kind_become_plain_floats(policy: ScriptedPolicy, values: Any) -> None:
    policy.act = lambda frame, instruction=None: said(values)  # type: ignore[method-assign]
    command = make(policy).step("frame")
    assert not command.stopped
    assert [type(value) for value in command.values] == [float, float]


def test_a_failed_reset_keeps_the_fault(policy: ScriptedPolicy) -> None:
    controller = make(policy)
    controller.halt("emergency button.")

    def refuse() -> None:
        raise EngineError("closed.", "")

    policy.reset = refuse  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="closed"):
        controller.reset()
    assert_stop(controller.step("frame"), "emergency button")


def test_a_late_command_is_a_fault(policy: ScriptedPolicy) -> None:
    policy.takes_ms = 101
    controller = make(policy, deadline_ms=100)
    assert_stop(controller.step("frame"), "took 101 ms, 100 ms are allowed")
    policy.takes_ms = 1
    assert_stop(controller.step("frame"), "took 101 ms")


def test_late_commands_may_be_allowed_singly_but_are_never_passed_on(policy: ScriptedPolicy) -> None:
    controller = make(policy, deadline_ms=100, late_allowed=1)
    policy.takes_ms = 150
    assert_stop(controller.step("frame"), "took 150 ms")
    policy.takes_ms = 10
    assert not controller.step("frame").stopped
    policy.takes_ms = 150
    assert controller.step("frame").stopped
    assert controller.fault is None
    assert controller.step("frame").stopped
    assert controller.fault is not None


def test_the_age_of_the_frame_counts(policy: ScriptedPolicy, clock: Clock) -> None:
    captured_s = clock()
    clock.pass_ms(95)
    assert_stop(make(policy, deadline_ms=100).step("frame", captured_s=captured_s), "took 105 ms")


@pytest.mark.parametrize(
    "captured_s",
    [
        *(1.7e9, 1000.006, math.nan, math.inf, -math.inf, 10**400, 10**5000, True, "1000", b"1", 1j),
        *(datetime(2026, 1, 1), SimpleNamespace(sec=1000, nanosec=0), Mute(), [1000.0], np.array([1000.0])),
    ],
    ids=lambda captured_s: type(captured_s).__name__,
)
def test_a_time_of_capture_by_another_clock_is_a_fault_since_no_deadline_could_be_kept(
    policy: ScriptedPolicy, captured_s: Any
) -> None:
    controller = make(policy)
    command = controller.step("frame", captured_s=captured_s)
    assert_stop(command, "captured_s=")
    assert_stop(command, "is not of this controller's clock, which says 1000.0")
    assert command.latency_ms == 0
    assert policy.calls == 0
    assert_stop(controller.step("frame"), "captured_s")


def test_a_time_of_capture_that_is_rounded_up_is_taken(policy: ScriptedPolicy, clock: Clock) -> None:
    assert not make(policy).step("frame", captured_s=clock() + 0.004).stopped


def test_a_motor_loop_gets_the_latest_command_while_it_is_fresh(policy: ScriptedPolicy, clock: Clock) -> None:
    controller = make(policy, deadline_ms=100, hold_ms=150)
    assert_stop(controller.current(), "no command yet")
    command = controller.step("frame")
    clock.pass_ms(149)
    assert controller.current() is command
    clock.pass_ms(2)
    assert_stop(controller.current(), "no new command for 151 ms, 150 ms are allowed")
    assert_stop(controller.step("frame"), "no new command")
    controller.reset()
    assert_stop(controller.current(), "no command yet")
    assert controller.fault is None


def test_a_command_that_comes_after_a_halt_does_not_pass(policy: ScriptedPolicy) -> None:
    controller = make(policy)
    inner = policy.act

    def halted_meanwhile(frame: Any, instruction: str | None = None) -> Action:
        controller.halt("emergency button.")
        return inner(frame, instruction)

    policy.act = halted_meanwhile  # type: ignore[method-assign]
    assert_stop(controller.step("frame"), "emergency button")
    assert_stop(controller.current(), "emergency button")


@pytest.mark.parametrize("before", [None, "an older fault."])
def test_a_halt_while_the_policy_is_reset_is_not_lost(policy: ScriptedPolicy, before: str | None) -> None:
    controller = make(policy)
    if before is not None:
        controller.halt(before)
    policy.reset = lambda: controller.halt("emergency button.")  # type: ignore[method-assign]
    controller.reset()
    assert controller.fault == "emergency button."
    assert_stop(controller.step("frame"), "emergency button")
    assert_stop(controller.current(), "emergency button")
    del policy.reset
    controller.reset()
    assert not controller.step("frame").stopped


@pytest.mark.parametrize(
    "said",
    [math.nan, math.inf, None, "1000", 10**400, True, datetime(2026, 1, 1), Broken(), np.zeros(2)],
    ids=lambda said: type(said).__name__,
)
def test_a_clock_that_says_no_number_is_a_fault(policy: ScriptedPolicy, said: Any) -> None:
    for ask in ("step", "while acting", "current"):
        times = Times(policy.clock)
        controller = Controller(policy, ControllerOptions(real_time_factor=None), times)
        assert not controller.step("frame").stopped
        times.says(said, after=1 if ask == "while acting" else 0)
        command = controller.current() if ask == "current" else controller.step("frame")
        assert_stop(command, "the clock says")
        times.says(None, after=None)
        assert_stop(controller.current(), "which is no finite number of seconds")


@pytest.mark.parametrize("error", [OSError("no clock"), Mute(), KeyboardInterrupt(), SystemExit()])
def test_a_clock_that_raises_is_a_fault(policy: ScriptedPolicy, error: BaseException) -> None:
    for ask in ("step", "while acting", "current"):
        times = Times(policy.clock)
        controller = Controller(policy, ControllerOptions(real_time_factor=None), times)
        assert not controller.step("frame").stopped
        times.says(error, after=1 if ask == "while acting" else 0)
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            assert_stop(controller.current() if ask == "current" else controller.step("frame"), "")
        times.says(None, after=None)
        assert_stop(controller.current(), "")
        assert controller.fault


class Times:
    """A clock that can be made to say or raise something, from a later question on."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.said, self.after = clock, None, None

    def says(self, said: Any, after: int | None) -> None:
        self.said, self.after = said, after

    def __call__(self) -> Any:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                if isinstance(self.said, BaseException):
                    raise self.said
                return self.said
        return self.clock()


@pytest.mark.parametrize("back_ms", [1, 90, 5000, 1e9])
def test_a_clock_that_goes_back_is_a_fault(policy: ScriptedPolicy, clock: Clock, back_ms: float) -> None:
    controller = make(policy)
    controller.step("frame")
    clock.pass_ms(-back_ms)
    assert_stop(controller.current(), f"the clock went back by {back_ms:.0f} ms")
    clock.pass_ms(back_ms)
    controller.reset()
    controller.step("frame")
    clock.pass_ms(-back_ms)
    assert_stop(controller.step("frame"), f"the clock went back by {back_ms:.0f} ms")
    controller.reset()
    policy.takes_ms = -back_ms
    assert_stop(controller.step("frame"), f"went back by {back_ms:.0f} ms while the policy worked")
    policy.takes_ms = 10
    controller.reset()
    assert not controller.step("frame").stopped


@pytest.mark.parametrize("asked", ["step", "current"])
@pytest.mark.parametrize("back_ms", [1, 100, 149])
def test_a_clock_that_goes_back_is_seen_whoever_asked_last(
    policy: ScriptedPolicy, clock: Clock, asked: str, back_ms: float
) -> None:
    controller = make(policy)
    controller.step("frame")
    clock.pass_ms(150)
    assert not controller.current().stopped
    clock.pass_ms(-back_ms)
    command = controller.step("frame") if asked == "step" else controller.current()
    assert_stop(command, f"the clock went back by {back_ms:.0f} ms")
    clock.pass_ms(150)
    assert controller.current().stopped


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_a_clock_that_stands_still_or_creeps_does_not_let_a_slow_command_pass(rate: float) -> None:
    policy = ScriptedPolicy(Clock())
    inner, policy.takes_ms = policy.act, 0.0

    def hanging(frame: Any, instruction: str | None = None) -> Action:
        time.sleep(0.05)
        return inner(frame, instruction)

    policy.act = hanging  # type: ignore[method-assign]
    begun = time.monotonic()
    controller = Controller(
        policy, ControllerOptions(deadline_ms=10), lambda: (time.monotonic() - begun) * rate
    )
    assert_stop(controller.step("frame"), "real time")
    assert_stop(controller.current(), "real time")


def test_nor_does_current_hold_a_command_for_ever_by_such_a_clock() -> None:
    policy = ScriptedPolicy(Clock())
    policy.takes_ms = 0.0
    controller = Controller(policy, ControllerOptions(deadline_ms=1000, hold_ms=20), policy.clock)
    controller.step("frame")
    time.sleep(0.05)
    assert_stop(controller.current(), "the controller's clock passed 0 ms where")
    assert_stop(controller.step("frame"), "it stands still or is slow")


def test_a_simulator_may_pause_or_be_slow_where_that_is_said() -> None:
    for factor, rate in ((None, 0.0), (0.01, 0.01)):
        begun = time.monotonic()
        policy = ScriptedPolicy(Clock())
        policy.takes_ms = 0.0
        controller = Controller(
            policy,
            ControllerOptions(deadline_ms=1000, hold_ms=20, real_time_factor=factor),
            lambda begun=begun, rate=rate: (time.monotonic() - begun) * rate,
        )
        assert not controller.step("frame").stopped
        time.sleep(0.05)
        assert not controller.current().stopped


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf, "1", True])
def test_a_real_time_factor_that_makes_no_sense_is_refused(policy: ScriptedPolicy, factor: Any) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        make(policy, real_time_factor=factor)


def test_a_reset_that_fails_is_a_fault(policy: ScriptedPolicy) -> None:
    controller = make(policy)
    assert not controller.step("frame").stopped

    def refuse() -> None:
        raise EngineError("this policy is closed.", "")

    policy.reset = refuse  # type: ignore[method-assign]
    with pytest.raises(EngineError):
        controller.reset()
    assert_stop(controller.current(), "this policy is closed")


@pytest.mark.parametrize("reason", [None, 3, "", Mute()])
def test_a_halt_without_a_text_halts(policy: ScriptedPolicy, reason: Any) -> None:
    controller = make(policy)
    controller.step("frame")
    controller.halt(reason)
    assert_stop(controller.current(), "halt was")


def test_a_log_that_fails_does_not_keep_the_stop_from_the_robot(
    policy: ScriptedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr("vla_edge.runtime.control.controller._log.error", refuse)
    policy.error = ZeroDivisionError()
    assert_stop(make(policy).step("frame"), "ZeroDivisionError")


def test_a_fault_is_logged_once_also_one_of_a_handler(
    policy: ScriptedPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    controller = make(policy)
    for _ in range(3):
        controller.halt("emergency button.")
    assert caplog.messages == []  # a handler must not wait for the log's lock
    for _ in range(3):
        controller.step("frame")
        controller.current()
    assert caplog.messages == ["stopped: emergency button."]


BAD_RESULTS = [None, said(None), said((None, 0.1)), said((math.nan, 0.0)), said((0.1,)), said((10**400, 0))]
BAD_ERRORS = [EngineError("broken.", ""), KeyError("x"), Mute(), KeyboardInterrupt(), SystemExit(), Rude()]
BAD_TIMES = [math.nan, math.inf, -1e9, 1e12, "1", 10**400, True]
EVENTS = st.one_of(
    st.tuples(st.just("step"), st.just(None)),
    st.tuples(st.just("current"), st.just(None)),
    st.tuples(st.just("pass"), st.floats(0, 90)),
    st.tuples(st.just("result"), st.sampled_from(BAD_RESULTS)),
    st.tuples(st.just("error"), st.sampled_from(BAD_ERRORS)),
    st.tuples(st.just("slow"), st.floats(100.1, 1e6)),
    st.tuples(st.just("captured"), st.sampled_from(BAD_TIMES)),
    st.tuples(st.just("back"), st.floats(0.1, 1e6)),
    st.tuples(st.just("stale"), st.floats(200.1, 1e6)),
    st.tuples(st.just("halt"), st.just("button")),
    st.tuples(st.just("reset"), st.booleans()),
)


class Drive:
    """Applies events, and knows by itself whether a fault is in force: then nothing may move."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.policy = ScriptedPolicy(self.clock)
        self.controller = make(self.policy)
        self.faulty = False
        self.moved = False

    def ask(self, *, fault: bool = False, current: bool = False, **options: Any) -> None:
        self.faulty |= fault
        try:
            command = self.controller.current() if current else self.controller.step("frame", **options)
        except (KeyboardInterrupt, SystemExit):
            assert self.faulty
            return
        assert command.stopped or not self.faulty
        assert all(map(math.isfinite, (*command.values, command.latency_ms)))
        assert command.stopped == bool(command.reason)
        assert any(command.values) != command.stopped
        self.moved |= not command.stopped

    def apply(self, kind: str, value: Any) -> None:
        policy, inner = self.policy, ScriptedPolicy.act.__get__(self.policy)
        if kind == "step":
            self.ask()
        elif kind == "current":
            self.ask(current=True)
        elif kind == "pass":
            self.clock.pass_ms(value)
            self.ask()
        elif kind == "result":
            policy.act = lambda frame, instruction=None: value  # type: ignore[method-assign]
            self.ask(fault=True)
            policy.act = inner  # type: ignore[method-assign]
        elif kind == "error":
            policy.error = value
            self.ask(fault=True)
            policy.error = None
        elif kind == "slow":
            policy.takes_ms = value
            self.ask(fault=True)
            policy.takes_ms = 10.0
        elif kind == "captured":
            self.ask(fault=True, captured_s=value)
        elif kind in ("back", "stale"):
            self.ask()
            self.clock.pass_ms(-value if kind == "back" else value)
            self.ask(fault=True, current=True)
        elif kind == "halt":
            self.controller.halt(value)
            self.faulty = True
        else:
            self.reset(halted=value)

    def reset(self, *, halted: bool) -> None:
        """With or without a halt in its middle."""
        self.policy.reset = lambda: self.controller.halt("button") if halted else None  # type: ignore[method-assign]
        self.controller.reset()
        self.faulty = halted
        assert self.controller.current().stopped


@settings(max_examples=400, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=20))
def test_no_sequence_of_events_moves_the_robot_after_a_fault(events: list[tuple[str, Any]]) -> None:
    drive = Drive()
    for kind, value in events:
        drive.apply(kind, value)
        assert bool(drive.controller.fault) == drive.faulty
        drive.ask(current=True)
    drive.reset(halted=False)
    drive.ask()
    assert drive.moved


@settings(max_examples=200, deadline=None)
@given(
    values=st.tuples(*[st.floats(width=32)] * 2),
    limit=st.floats(0.01, 1.15),
    takes_ms=st.floats(0, 300),
)
def test_whatever_the_policy_says_the_command_is_finite_and_within_limits(
    values: tuple[float, float], limit: float, takes_ms: float
) -> None:
    policy = ScriptedPolicy(Clock())
    policy.output = np.array([values], np.float32)
    policy.takes_ms = takes_ms
    command = make(policy, limits={"linear_x": limit}).step("frame")
    assert all(math.isfinite(value) for value in command.values)
    assert abs(command.values[0]) <= limit
    assert abs(command.values[1]) <= 1.15
    assert not (takes_ms > 100.001 and not command.stopped)
