"""Another instruction while the robot drives: a new episode, no stop, and no fault forgiven."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import DEFAULT, ENGLISH, LEFT

from vla_edge.runtime import (
    Command,
    Controller,
    ControllerOptions,
    InstructionError,
    Policy,
    RunOptions,
)

OPTIONS = ControllerOptions(deadline_ms=5000.0, hold_ms=5000.0)


def frames(count: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


def said(command: Command) -> tuple[str | None, tuple[float, ...]]:
    assert command.action is not None, command.reason
    return command.action.instruction, command.values


@pytest.mark.parametrize("fields", [{}, {"carried": True}, {"frame": "first"}], ids=str)
def test_a_new_instruction_begins_an_episode(
    make_bundle: Callable[..., Path], fields: dict[str, Any]
) -> None:
    one, two, three, *_ = frames()
    with Policy.load(make_bundle(**fields)) as policy:
        policy.act(three, LEFT)
        after = policy.act(two, LEFT).values if not fields.get("frame") else None
        policy.reset()
        fresh = policy.act(three, LEFT).values
        policy.reset()
        controller = Controller(policy, OPTIONS)
        assert said(controller.step(one))[0] == DEFAULT
        assert said(controller.step(two))[0] == DEFAULT
        controller.instruct(LEFT)
        assert said(controller.current())[0] == DEFAULT  # nothing stops meanwhile
        assert said(controller.step(three)) == (LEFT, fresh)
        if after is not None:
            assert said(controller.step(two)) == (LEFT, after)  # and no second episode began
        controller.instruct(None)
        assert said(controller.step(one))[0] == DEFAULT


def test_one_that_cannot_be_followed_is_refused_where_it_is_asked_for(pristine_bundle: Path) -> None:
    with Policy.load(pristine_bundle) as policy:
        controller = Controller(policy, OPTIONS)
        controller.instruct(LEFT)
        with pytest.raises(InstructionError, match="does not hold the instruction 'dance'"):
            controller.instruct("dance")
        assert controller.fault is None
        assert said(controller.step(frames()[0]))[0] == LEFT


def test_a_fault_outlives_another_instruction_which_holds_after_the_reset(pristine_bundle: Path) -> None:
    one, two, *_ = frames()
    with Policy.load(pristine_bundle) as policy:
        controller = Controller(policy, OPTIONS)
        controller.step(one)
        controller.halt("the emergency button.")
        controller.instruct(LEFT)
        assert controller.step(two).reason == "the emergency button."
        controller.reset()
        assert said(controller.step(two))[0] == LEFT


def test_a_policy_that_cannot_be_reset_is_a_fault(
    pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Policy.load(pristine_bundle) as policy:
        controller = Controller(policy, OPTIONS)
        controller.instruct(LEFT)

        def refuse() -> None:
            raise OSError("no reset")

        monkeypatch.setattr(policy, "reset", refuse)
        assert controller.step(frames()[0]).stopped
        assert controller.fault == "OSError: no reset"


def test_an_instruction_of_a_step_goes_before(pristine_bundle: Path) -> None:
    one, two, *_ = frames()
    with Policy.load(pristine_bundle) as policy:
        controller = Controller(policy, OPTIONS)
        controller.instruct(LEFT)
        assert said(controller.step(one, ENGLISH))[0] == ENGLISH
        assert said(controller.step(two))[0] == LEFT


def test_the_loop_follows_it(pristine_bundle: Path) -> None:
    rng = np.random.default_rng(0)
    followed: list[str | None] = []

    class Camera:
        left = 60

        def read(self) -> tuple[np.ndarray, float] | None:
            time.sleep(0.01)
            self.left -= 1
            frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            return (frame, time.monotonic()) if self.left else None

    class Wheels:
        def send(self, command: Command) -> None:
            if command.action is not None:
                followed.append(command.action.instruction)
                if len(followed) == 5:
                    threading.Thread(target=controller.instruct, args=(LEFT,)).start()

    with Policy.load(pristine_bundle, threads=1) as policy:
        policy.warmup()
        controller = Controller(policy, OPTIONS)
        health = controller.run(Camera(), Wheels(), 50.0, RunOptions(instruction=ENGLISH))
    assert list(dict.fromkeys(followed)) == [ENGLISH, LEFT]
    assert set(health.stops) == {controller.cause}


def test_another_thread_may_ask_whether_an_instruction_is_held_while_the_policy_acts(
    make_bundle: Callable[..., Path],
) -> None:
    with Policy.load(make_bundle(vocabulary="full")) as policy:
        policy.check_instruction(None)
        policy.check_instruction("go to the door")
        with policy._turn, pytest.raises(InstructionError, match="holds the special token"):
            policy.check_instruction("go <pad>")
