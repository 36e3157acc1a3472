"""What was sent is written by another thread, whole at the end; a disk that fails holds no robot up."""

from __future__ import annotations

import threading
import time

from loop_parts import NAMES, Robot

from vla_edge.runtime.control.command import stop_for
from vla_edge.runtime.drive import watching
from vla_edge.runtime.drive.watching import Sent, Watched


class Seen(list[Sent]):
    """A screen that remembers."""

    ended = 0

    def __call__(self, sent: Sent) -> None:
        self.append(sent)

    def end(self) -> None:
        self.ended += 1


class Gone(Seen):
    """A terminal that was closed."""

    def __call__(self, sent: Sent) -> None:
        super().__call__(sent)
        raise OSError(5, "Input/output error")


def test_all_that_was_sent_is_written_when_it_is_left() -> None:
    robot, written, drawn = Robot(), list[Sent](), Seen()
    with Watched(robot, written.append, drawn) as watched:
        for at in range(100):
            watched.send(stop_for(NAMES, f"{at}."))
    assert [sent.command.reason for sent in written] == [f"{at}." for at in range(100)]
    assert drawn[-1] is written[-1]
    assert drawn.ended == 1
    assert len(robot.sent) == 100


def test_a_screen_that_fails_is_asked_no_more_and_the_file_is_whole() -> None:
    screen, written = Gone(), list[Sent]()
    with Watched(Robot(), written.append, screen) as watched:
        watched.send(stop_for(NAMES, "a reason."))
        while watched.unseen is None:
            time.sleep(0.01)
        for _ in range(100):
            watched.send(stop_for(NAMES, "another."))
    assert len(written) == 101
    assert (len(screen), screen.ended) == (1, 1)
    assert watched.error is None


def test_a_full_disk_is_kept_for_the_end_and_commands_go_on() -> None:
    def write(sent: Sent) -> None:
        raise OSError(28, "No space left on device")

    robot = Robot()
    with Watched(robot, write, Seen()) as watched:
        for _ in range(10):
            watched.send(stop_for(NAMES, "a reason."))
    assert isinstance(watched.error, OSError)
    assert len(robot.sent) == 10


def test_a_disk_that_hangs_takes_bounded_memory() -> None:
    let_go, robot = threading.Event(), Robot()
    with Watched(robot, lambda sent: let_go.wait(20), Seen()) as watched:
        for _ in range(watching._MOST_WAITING + 100):
            watched.send(stop_for(NAMES, "a reason."))
        assert watched.dropped >= 99
        let_go.set()
    assert len(robot.sent) == watching._MOST_WAITING + 100
