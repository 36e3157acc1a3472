"""A turn is held by a running call and by nothing else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.process import exclusive_use as module
from vla_edge.runtime.process.exclusive_use import ExclusiveUse


@pytest.fixture
def turn() -> ExclusiveUse:
    return ExclusiveUse(busy=("in use.", "wait."), closed=("closed.", "open it."))


def use(turn: ExclusiveUse, then: Callable[[], object] = lambda: None) -> None:
    with turn:
        then()


def test_a_call_inside_a_call_is_refused_and_the_outer_one_goes_on(turn: ExclusiveUse) -> None:
    def inner() -> None:
        for _ in range(3):
            with pytest.raises(EngineError, match="in use"):
                use(turn)

    use(turn, inner)
    use(turn)


def test_another_thread_is_refused_while_the_call_runs(turn: ExclusiveUse) -> None:
    found: list[Any] = []

    def other() -> None:
        try:
            found.append(use(turn))
        except EngineError as error:
            found.append(error.problem)

    def run_other() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    use(turn, run_other)
    run_other()
    assert found == ["in use.", None]


def test_a_closed_one_gives_no_turn(turn: ExclusiveUse) -> None:
    turn.closed = True
    for _ in range(2):
        with pytest.raises(EngineError, match="closed"):
            use(turn)


class Interrupted(BaseException):
    pass


def interrupted_at(turn: ExclusiveUse, target: int) -> bool:
    """Whether a use was interrupted at that line of exclusive_use.py, counted in the order of execution."""
    seen = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != module.__file__:
            return None
        seen += 1
        if seen == target:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        use(turn)
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_moment_leaves_the_turn_to_be_taken_again(turn: ExclusiveUse) -> None:
    moments = 0
    while interrupted_at(turn, moments + 1):
        moments += 1
        use(turn)
    assert moments > 10
