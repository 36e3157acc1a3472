"""What was sent is written by another thread, whole at the end; a disk that fails holds no robot up."""

from __future__ import annotations

import threading

from loop_parts import NAMES, Robot

from vla_edge.runtime.control.command import stop_for
from vla_edge.runtime.drive import watching
from vla_edge.runtime.drive.watching import Sent, Watched


def test_all_that_was_sent_is_written_when_it_is_left() -> None:
    robot, written, told = Robot(), list[Sent](), list[Sent]()
    with Watched(robot, written.append, [told.append]) as watched:
        for at in range(100):
            watched.send(stop_for(NAMES, f"{at}."))
    assert [sent.command.reason for sent in written] == [f"{at}." for at in range(100)]
    assert told == written
    assert len(robot.sent) == 100


def test_a_full_disk_is_kept_for_the_end_and_commands_go_on() -> None:
    def write(sent: Sent) -> None:
        raise OSError(28, "No space left on device")

    robot = Robot()
    with Watched(robot, write) as watched:
        for _ in range(10):
            watched.send(stop_for(NAMES, "a reason."))
    assert isinstance(watched.error, OSError)
    assert len(robot.sent) == 10


def test_a_disk_that_hangs_takes_bounded_memory() -> None:
    let_go, robot = threading.Event(), Robot()
    with Watched(robot, lambda sent: let_go.wait(20)) as watched:
        for _ in range(watching._MOST_WAITING + 100):
            watched.send(stop_for(NAMES, "a reason."))
        assert watched.dropped >= 99
        let_go.set()
    assert len(robot.sent) == watching._MOST_WAITING + 100
