"""The loop state by state: what each state sends, what leads out of it, and that a fault is a stop for good."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from loop_parts import NAMES, PERIOD_S, Bench

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.command import Command
from vla_edge.runtime.control.loop.options import RunOptions
from vla_edge.runtime.errors import EngineError, ImageError


def test_the_first_command_is_a_stop_and_it_waits_for_an_action() -> None:
    bench = Bench()
    assert (bench.state, [command.values for command in bench.robot.sent]) == ("waiting", [(0.0, 0.0)])
    bench.turn()
    assert bench.robot.sent[-1].reason == "no command yet."


def test_an_action_is_sent_as_soon_as_it_is_there() -> None:
    bench = Bench()
    bench.frame()
    bench.turn()
    bench.pass_s(0.02)
    bench.answer()
    bench.turn()
    assert bench.state == "moving"
    assert bench.robot.sent[-1].values == (0.5, -0.25)
    assert bench.robot.sent[-1].latency_ms == pytest.approx(20)


def test_a_frame_that_comes_after_its_tick_is_taken_at_once_and_one_a_tick() -> None:
    bench = Bench()
    bench.turn()
    bench.pass_s(0.03)
    bench.frame()
    bench.turn()
    assert len(bench.jobs) == 1
    bench.answer()
    bench.frame()
    bench.turn()
    assert bench.jobs == []
    bench.pass_s(0.1)
    bench.turn()
    assert len(bench.jobs) == 1


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    bench = Bench()
    for _ in range(5):
        bench.frame()
    bench.turn()
    assert bench.jobs[0].number == 5
    assert (bench.machine.counts.frames, bench.machine.counts.dropped_frames) == (5, 4)


def test_there_is_one_command_a_tick_and_the_latest_is_repeated_where_the_policy_takes_longer() -> None:
    bench = Bench(deadline_ms=1000.0)
    sent = len(bench.robot.sent)
    bench.drive(5)
    assert len(bench.robot.sent) == sent + 6  # and a stop at the first tick
    sent = len(bench.robot.sent)
    bench.frame()
    bench.turn()
    for _ in range(2):
        bench.pass_s(PERIOD_S)
        bench.turn()
    assert bench.state == "moving"
    assert len(bench.robot.sent) == sent + 2


def test_a_stale_command_is_seen_between_the_ticks() -> None:
    bench = Bench(hold_ms=150.0)
    bench.drive(1)
    bench.frame()
    bench.turn()
    bench.pass_s(0.06)
    bench.turn()
    assert (bench.state, bench.controller.cause) == ("fault", Cause.STALE)
    assert bench.robot.sent[-1].stopped


def test_missed_ticks_are_counted_and_not_caught_up() -> None:
    bench = Bench(RunOptions(camera_ms=1e9), hold_ms=1e6)
    bench.drive(3)
    sent = len(bench.robot.sent)
    bench.pass_s(5 * PERIOD_S)
    bench.turn()
    bench.turn()
    assert len(bench.robot.sent) == sent + 1
    assert (bench.machine.ticks.count, bench.machine.ticks.missed) == (4, 5)


def not_finite(bench: Bench) -> None:
    bench.values = (math.nan, 0.0)
    answered(bench)


def engine_fails(bench: Bench) -> None:
    bench.values = EngineError("the engine fell over.")
    answered(bench)


def dark(bench: Bench) -> None:
    answered(bench, np.zeros((48, 64, 3), np.uint8))


def no_frame_at_all(bench: Bench) -> None:
    answered(bench, np.zeros((48, 64), np.uint8))


def answered(bench: Bench, pixels: np.ndarray | None = None) -> None:
    bench.frame(pixels)
    bench.turn()
    if bench.values == (math.nan, 0.0) or bench.jobs:
        bench.answer()


def late(bench: Bench) -> None:
    bench.frame()
    bench.turn()
    bench.pass_s(0.101)
    bench.answer()


def hangs(bench: Bench) -> None:
    bench.frame()
    bench.turn()
    bench.pass_s(0.101)


def frozen(bench: Bench) -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    while bench.controller.fault is None:
        bench.frame(pixels)
        bench.turn()
        if bench.jobs:
            bench.answer()
        bench.turn()
        bench.pass_s(PERIOD_S)


def camera_stands(bench: Bench) -> None:
    bench.controller._latest = None  # type: ignore[assignment]  # else the command is stale before
    bench.pass_s(0.6)


def stale(bench: Bench) -> None:
    bench.pass_s(0.32)


def camera_fails(bench: Bench) -> None:
    bench.machine.inbox.put_camera_fault(OSError("unplugged"))


def corrupt(bench: Bench) -> None:
    bench.machine.inbox.put_camera_fault(ImageError("frame.jpg is damaged."))


def clock_back(bench: Bench) -> None:
    bench.jump_s = -3.0
    bench.pass_s(PERIOD_S)


def parent_dies(bench: Bench) -> None:
    bench.parent = 1


def halted(bench: Bench) -> None:
    bench.controller.halt("emergency button.")


def driver_fails(bench: Bench) -> None:
    bench.robot.error = OSError("no such bus")
    bench.pass_s(PERIOD_S)
    bench.turn()
    bench.robot.error = None


Fault = Callable[[Bench], None]
FAULTS: list[tuple[Fault, Cause, str]] = [
    (not_finite, Cause.NOT_FINITE, "nan"),
    (engine_fails, Cause.ENGINE, "fell over"),
    (dark, Cause.BLIND, "shows nothing"),
    (late, Cause.LATE, "the command took 101 ms, 100 ms are allowed"),
    (hangs, Cause.HANG, "has not answered for 101 ms, 100 ms are allowed"),
    (frozen, Cause.FROZEN, "repeats itself"),
    (camera_stands, Cause.CAMERA, "no new frame for"),
    (stale, Cause.STALE, "no new command for"),
    (camera_fails, Cause.CAMERA, "OSError: unplugged"),
    (corrupt, Cause.FRAME, "frame.jpg is damaged"),
    (clock_back, Cause.CLOCK, "the clock went back by"),
    (parent_dies, Cause.PARENT, "the process that started this one has ended"),
    (halted, Cause.HALT, "emergency button"),
    (driver_fails, Cause.ROBOT, "no such bus"),
]


@pytest.mark.parametrize(("inject", "cause", "words"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_fault_while_moving_is_a_stop_at_once_and_for_good(inject: Fault, cause: Cause, words: str) -> None:
    bench = Bench()
    bench.drive(3)
    assert bench.state == "moving"
    inject(bench)
    bench.turn()
    assert bench.state == "fault"
    assert bench.robot.sent[-1].stopped
    assert words in bench.machine.reason
    assert bench.controller.cause is cause
    assert bench.machine.counts.stops[cause] == 1
    moving = bench.robot.moving
    bench.values = (0.5, -0.25)
    bench.drive(5)
    assert bench.robot.moving == moving
    assert bench.machine.counts.stops[cause] == 1


@pytest.mark.parametrize(("inject", "cause", "words"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_it_drives_again_after_a_reset_once_the_policy_is_at_rest(
    inject: Fault, cause: Cause, words: str
) -> None:
    bench = Bench()
    bench.drive(2)
    inject(bench)
    bench.turn()
    bench.values = (0.5, -0.25)
    bench.machine.inbox.ask_reset()
    if bench.machine.working:
        bench.turn()
        assert bench.state == "fault"
        bench.answer()
    bench.turn()
    assert (bench.state, bench.machine.counts.resets) == ("waiting", 1)
    assert bench.robot.sent[-1].stopped
    bench.pass_s(PERIOD_S)
    bench.drive(2)
    assert bench.state == "moving"


def test_a_late_answer_that_is_allowed_is_a_pause() -> None:
    bench = Bench(late_allowed=1, hold_ms=400.0)
    bench.drive(2)
    bench.frame()
    bench.turn()
    bench.pass_s(0.15)
    bench.turn()
    assert (bench.state, bench.machine.reason) == ("paused", "the policy is late.")
    bench.answer()
    bench.turn()
    assert bench.robot.sent[-1].stopped
    bench.pass_s(0.1)
    bench.drive(1)
    assert bench.state == "moving"
    assert bench.machine.counts.stops[Cause.LATE] == 1


def test_a_policy_that_never_answers_is_a_fault_even_where_late_ones_are_allowed() -> None:
    bench = Bench(late_allowed=3, hold_ms=200.0)
    bench.drive(2)
    bench.frame()
    bench.turn()
    bench.pass_s(0.301)
    bench.frame()
    bench.turn()
    assert bench.state == "fault"
    assert bench.robot.sent[-1].stopped


def test_a_policy_that_cannot_be_reset_stays_stopped() -> None:
    bench = Bench()
    bench.drive(2)
    bench.controller.halt("emergency button.")
    bench.refuses_reset = EngineError("closed.")
    bench.machine.inbox.ask_reset()
    bench.turn()
    bench.turn()
    assert (bench.state, bench.controller.fault) == ("fault", "emergency button.")


def test_a_reset_that_a_hanging_policy_kept_waiting_is_none() -> None:
    bench = Bench()
    bench.drive(2)
    hangs(bench)
    bench.turn()
    bench.machine.inbox.ask_reset()
    bench.turn()
    bench.pass_s(1.1)
    bench.answer()
    bench.drive(3)
    assert (bench.state, bench.machine.counts.resets) == ("fault", 0)


def test_a_policy_whose_reset_raises_anything_is_latched_and_stopped() -> None:
    bench = Bench()
    bench.drive(2)
    bench.refuses_reset = RuntimeError("odd")
    bench.machine.inbox.ask_reset()
    bench.turn()
    assert (bench.state, bench.controller.fault) == ("fault", "RuntimeError: odd")
    assert bench.robot.sent[-1].stopped


@pytest.mark.parametrize("ended", [False, True])
def test_what_another_thread_latches_before_a_command_is_on_its_way_counts(
    ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    bench.drive(2)
    shaper = bench.machine._shaper

    def meanwhile(command: Command, arrived_s: float, now_s: float) -> Command:
        bench.controller.halt("emergency button.")
        if ended:
            bench.machine.stop_for_good()
        return command

    monkeypatch.setattr(shaper, "shape", meanwhile)
    moving = bench.robot.moving
    bench.drive(1)
    assert bench.robot.moving == moving
    assert bench.robot.sent[-1].stopped
    assert bench.state == ("ended" if ended else "fault")


def test_frames_of_before_a_reset_are_not_acted_on() -> None:
    bench = Bench()
    bench.drive(2)
    bench.frame()
    bench.controller.halt("emergency button.")
    bench.turn()
    bench.machine.inbox.ask_reset()
    bench.turn()
    bench.pass_s(PERIOD_S)
    bench.turn()
    assert bench.jobs == []


def test_no_first_frame_is_a_fault_after_its_own_time() -> None:
    bench = Bench(RunOptions(first_frame_ms=2000.0))
    bench.pass_s(1.9)
    bench.turn()
    assert bench.state == "waiting"
    bench.pass_s(0.2)
    bench.turn()
    assert (bench.state, bench.controller.cause) == ("fault", Cause.CAMERA)


def test_a_camera_that_ends_ends_the_loop_after_its_last_frame() -> None:
    bench = Bench()
    bench.drive(2)
    bench.frame()
    bench.machine.inbox.put_camera_end()
    assert bench.turn() > 0
    bench.answer()
    assert bench.turn() == 0
    bench.machine.stop_for_good()
    assert bench.robot.sent[-1].stopped
    assert (bench.state, bench.machine.reason) == ("ended", "the camera has ended.")


def test_nothing_is_sent_after_the_last_stop() -> None:
    bench = Bench()
    bench.drive(2)
    bench.machine.stop_for_good()
    sent = len(bench.robot.sent)
    bench.drive(3)
    assert len(bench.robot.sent) == sent
    assert bench.robot.sent[-1].stopped


def test_the_parents_death_and_a_fault_that_is_to_end_it_end_the_loop() -> None:
    bench = Bench()
    bench.parent = 1
    assert bench.turn() == 0
    bench = Bench(RunOptions(end_on_fault=True))
    bench.drive(1)
    bench.controller.halt("emergency button.")
    assert bench.turn() == 0


def test_a_halt_that_comes_while_a_command_is_on_its_way_is_followed_by_a_stop_at_once() -> None:
    bench = Bench()
    bench.drive(2)
    send = bench.robot.send

    def halted_meanwhile(command: object) -> None:
        send(command)  # type: ignore[arg-type]
        bench.robot.send = send  # type: ignore[method-assign]
        bench.controller.halt("emergency button.")

    bench.robot.send = halted_meanwhile  # type: ignore[method-assign,assignment]
    bench.drive(1)
    assert bench.robot.send == send
    assert [command.stopped for command in bench.robot.sent[-2:]] == [False, True]


def test_it_asks_to_be_called_before_the_next_tick() -> None:
    bench = Bench()
    bench.turn()
    assert bench.turn() == 0.01
    bench.pass_s(PERIOD_S - 0.004)
    assert bench.turn() == pytest.approx(0.004)


def test_a_chunk_is_played_by_time_and_dropped_when_a_newer_one_comes() -> None:
    bench = Bench(RunOptions(chunk_step_ms=50.0), deadline_ms=250.0, rate_hz=20.0)
    bench.values = (0.1, 0.0)
    bench.chunk = ((0.1, 0.0), (0.2, 0.0), (0.3, 0.0))
    bench.frame()
    bench.turn()
    bench.answer()
    bench.turn()
    for expected in (0.2, 0.3):
        bench.pass_s(0.0501)
        bench.turn()
        assert bench.robot.sent[-1].values == (expected, 0.0)
    bench.values, bench.chunk = (0.7, 0.0), ((0.7, 0.0), (0.8, 0.0))
    bench.frame()
    bench.turn()
    bench.answer()
    bench.turn()
    assert bench.robot.sent[-1].values == (0.7, 0.0)
    bench.pass_s(0.11)
    bench.turn()
    assert (bench.state, bench.controller.cause) == ("fault", Cause.STALE)
    assert (
        "the latest action is over after its last step, of 2, and no newer one came" in bench.machine.reason
    )


def test_a_chunk_that_holds_nan_is_a_fault_when_its_turn_comes() -> None:
    bench = Bench(RunOptions(chunk_step_ms=50.0), rate_hz=20.0)
    bench.chunk = ((0.5, 0.0), (math.nan, 0.0))
    bench.frame()
    bench.turn()
    bench.answer()
    bench.pass_s(0.0501)
    bench.turn()
    assert (bench.state, bench.controller.cause) == ("fault", Cause.NOT_FINITE)


def test_the_acceleration_is_limited_from_rest_and_braking_is_not() -> None:
    bench = Bench(RunOptions(acceleration={"linear_x": 1.0}))
    bench.values = (0.5, -0.25)
    bench.drive(2)
    first, *_, second = (command.values for command in bench.robot.sent if not command.stopped)
    assert 0 < first[0] < second[0] < 0.5
    assert first[1] == -0.25
    bench.drive(8)
    assert bench.robot.sent[-1].values[0] == 0.5
    bench.values = (0.1, 0.0)
    bench.drive(1)
    assert bench.robot.sent[-1].values == (0.1, 0.0)
    bench.controller.halt("emergency button.")
    bench.turn()
    assert bench.robot.sent[-1].values == (0.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_components_are_named_in_every_stop(name: str) -> None:
    assert name in Bench().robot.sent[0].names
