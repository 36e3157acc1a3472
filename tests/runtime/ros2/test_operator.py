"""Words and tasks: what starts, what stops, and that no order of them moves a robot that was told to stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.latch import FaultLatch
from vla_edge.runtime.errors import InstructionError
from vla_edge.runtime.ros2.operator import WORDS, Operator

TASKS = ("go", "fly")


class Latched:
    """A controller's latch, whose resets are done when the test says so."""

    def __init__(self) -> None:
        self.latch = FaultLatch()
        self.asked = 0
        self.at_reset: Callable[[], object] = lambda: None
        self.task: str | None = None

    @property
    def fault(self) -> str | None:
        return None if self.latch.fault is None else self.latch.fault.reason

    @property
    def cause(self) -> Cause | None:
        return None if self.latch.fault is None else self.latch.fault.cause

    def halt(self, reason: str, cause: Cause = Cause.HALT) -> None:
        self.latch.set(reason, cause=cause)

    def ask_reset(self) -> None:
        self.asked += 1

    def instruct(self, text: str | None) -> None:
        if text == "fly":
            raise InstructionError("there is no 'fly'.", "There is 'go'.")
        self.task = text

    def reset(self) -> None:
        """As `Controller.reset`."""
        if self.asked:
            self.asked = 0
            self.latch.begin()
            self.at_reset()
            self.latch.forgive()


def operated(autostart: bool = False) -> tuple[Latched, Operator]:
    controller = Latched()
    operator = Operator(controller, None, autostart)
    controller.at_reset = operator.at_reset
    return controller, operator


def test_it_waits_for_start_unless_it_is_to_start_by_itself() -> None:
    assert operated()[0].fault == "waits for start."
    assert operated(autostart=True)[0].fault is None


@pytest.mark.parametrize("said", ["start", " START\n", "Start"])
def test_start_starts(said: str) -> None:
    controller, operator = operated()
    operator.say(said)
    controller.reset()
    assert controller.fault is None
    assert operator.answer == "starts."
    operator.say(said)
    assert (operator.answer, controller.asked) == ("started already.", 0)


def test_a_fault_needs_reset_and_then_start() -> None:
    controller, operator = operated(autostart=True)
    controller.halt("the camera failed", Cause.CAMERA)
    operator.say("start")
    assert (operator.answer, controller.asked) == ("not started: a fault stands, say reset first.", 0)
    operator.say("reset")
    controller.reset()
    assert (controller.fault, controller.cause) == ("waits for start.", Cause.OPERATOR)
    operator.say("start")
    controller.reset()
    assert controller.fault is None


@pytest.mark.parametrize("said", ["stop", "STOP!", "halt", "", "start please", "s" * 10_000, "\x1b[2J"])
def test_anything_else_stops(said: str) -> None:
    controller, operator = operated(autostart=True)
    operator.say(said)
    assert controller.fault == "was told to stop; waits for start."
    assert operator.answer.endswith("stopped.")
    assert len(operator.answer) < 120
    assert operator.answer.isprintable()


def test_a_stop_outlives_the_start_before_it() -> None:
    controller, operator = operated()
    operator.say("start")
    operator.say("stop")
    controller.reset()
    assert controller.cause is Cause.OPERATOR


def test_a_task_is_passed_on() -> None:
    controller, operator = operated(autostart=True)
    operator.set_task(" 컵까지 가세요\n")
    assert controller.task == operator.task == "컵까지 가세요"
    assert controller.fault is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a task of 0 characters is none."),
        (" \n", "a task of 0 characters is none."),
        ("가" * 2001, "a task of 2001 characters is none."),
        ("fly", "there is no 'fly'."),
    ],
)
def test_a_task_that_cannot_be_followed_stops_until_another_one_comes(text: str, words: str) -> None:
    controller, operator = operated(autostart=True)
    operator.set_task("go")
    operator.set_task(text)
    assert (controller.fault, controller.cause) == (f"the task was refused: {words}", Cause.OPERATOR)
    for word in ("start", "reset", "start"):
        operator.say(word)
        controller.reset()
        assert controller.fault is not None
    assert "the latest task was refused" in operator.answer
    operator.set_task("go")
    assert controller.fault is not None
    operator.say("start")
    controller.reset()
    assert controller.fault is None


def test_a_first_task_that_the_policy_does_not_know_is_refused_before_anything_runs() -> None:
    with pytest.raises(InstructionError):
        Operator(Latched(), "fly", False)


def test_a_reset_of_a_robot_that_moves_stops_it_at_once() -> None:
    controller, operator = operated(autostart=True)
    operator.say("reset")
    assert controller.cause is Cause.OPERATOR
    controller.reset()
    assert controller.cause is Cause.OPERATOR


@given(st.lists(st.sampled_from([*WORDS, *TASKS, "nonsense", "fault", "turn"])))
def test_it_moves_only_where_start_was_the_last_word_and_every_fault_was_reset(events: list[str]) -> None:
    controller, operator = operated()
    started = broken = refused = False
    for event in events:
        if event == "fault":
            broken = broken or controller.fault is None
            controller.halt("broken", Cause.ENGINE)
        elif event == "turn":
            controller.reset()
        elif event in TASKS:
            operator.set_task(event)
            refused = event == "fly"
            started = started and not refused
        else:
            operator.say(event)
            started = event == "start" and not broken and not refused
            broken = broken and event != "reset"
        assert controller.fault is not None or (started and not broken and not refused)
