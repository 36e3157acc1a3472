"""What shows a drive keeps nobody waiting, and grows by nothing, whatever its process does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from vla_edge.runtime.control.command import stop_for
from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.drive.watching import Sent
from vla_edge.runtime.show import show
from vla_edge.runtime.show.messages import Beginning, Place, Update
from vla_edge.runtime.show.process import GoneError, ShowProcess
from vla_edge.runtime.show.show import Drive, Show

DRIVE = Drive(("linear_x",), ("m/s",), (1.0,), 100.0)
SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")
FAILS = (sys.executable, "-c", "import sys; print('\"no disk\"'); sys.exit(1)")
VANISHES = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")


class Camera:
    """Gives the same lively frame without end."""

    def __init__(self, frame: object) -> None:
        self.frame = frame

    def read(self) -> Captured:
        return Captured(self.frame, time.monotonic())


FRAME = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def shown(command: tuple[str, ...], notes: list[str], place: str = "address") -> Show:
    def start(beginning: Beginning) -> ShowProcess:
        return ShowProcess(beginning, command)

    return Show(Place(place, "x.rrd"), DRIVE, lambda: None, notes.append, start)  # type: ignore[arg-type]


def until_noted(notes: list[str], seen: Camera, showing: Show) -> None:
    end_s = time.monotonic() + 60
    while not notes:
        assert time.monotonic() < end_s
        seen.read()
        showing.sent(Sent(time.monotonic(), stop_for(("linear_x",), "a reason.")))
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (SLEEPS, "the viewer cannot be reached: it has taken nothing for 0.3 s."),
        (FAILS, "the viewer cannot be reached: no disk."),
        (VANISHES, "the viewer cannot be reached: its process ended with code -9."),
        (("/nowhere/python",), "the viewer cannot be reached: no process can be started:"),
    ],
)
def test_a_process_that_hangs_or_fails_is_a_note(
    command: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "PATIENCE_S", 0.3)
    notes: list[str] = []
    with shown(command, notes) as showing:
        until_noted(notes, showing.watching(Camera(FRAME)), showing)
    assert len(notes) == 1
    assert notes[0].startswith(words)


def test_what_nobody_takes_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "PATIENCE_S", 600)
    notes: list[str] = []
    with shown(SLEEPS, notes) as showing:
        seen = showing.watching(Camera(FRAME))
        while not showing.dropped_commands:
            seen.read()
            for _ in range(1000):
                showing.sent(Sent(time.monotonic(), stop_for(("linear_x",), "a reason.")))
            time.sleep(0.01)
        assert len(showing._commands) <= show._MOST_COMMANDS
        showing._process._process.kill()  # type: ignore[union-attr]
    assert showing.frames > showing.shown_frames
    assert "commands, which nobody took in time" in showing.summary()


def test_a_frame_that_is_none_is_noted_and_commands_are_shown(tmp_path: Path) -> None:
    notes: list[str] = []
    path = tmp_path / "drive.rrd"
    with Show(Place("file", str(path)), DRIVE, lambda: None, notes.append) as showing:
        showing.watching(Camera(np.zeros((3,), np.complex64))).read()
        showing.sent(Sent(time.monotonic(), stop_for(("linear_x",), "a reason.")))
    assert notes[0].startswith("frame 1 cannot be shown: ")
    assert (showing.shown_frames, showing.shown_commands) == (0, 1)
    assert path.exists()


def test_a_recording_that_is_lost_is_noted_though_a_frame_was_before(tmp_path: Path) -> None:
    notes: list[str] = []
    with shown(FAILS, notes, "file") as showing:
        showing.watching(Camera(np.zeros((3,), np.complex64))).read()
    assert [note.partition(":")[0] for note in notes] == [
        "frame 1 cannot be shown",
        "the recording cannot be written",
    ]
    assert "MB" not in showing.summary()


def test_a_file_that_cannot_be_written_ends_the_showing_alone(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "drive.partial.rrd").mkdir()
    with Show(Place("file", str(tmp_path / "drive.rrd")), DRIVE, lambda: None, notes.append) as showing:
        until_noted(notes, showing.watching(Camera(FRAME)), showing)  # type: ignore[arg-type]
    assert notes[0].startswith("the recording cannot be written: IsADirectoryError")
    assert notes[0].endswith("The drive goes on; nothing more is shown.")


def test_a_process_that_was_killed_tells_so_at_its_end() -> None:
    place = Beginning(Place("address", "x"), "r", ("a",), ("m/s",), (1.0,), 100.0, ())
    started = ShowProcess(place, SLEEPS)
    started._process.kill()
    with pytest.raises(GoneError, match="ended with code -9"):
        started.end()
    started.kill()


STUCK = """
import time
from vla_edge.runtime.show import child

class Stuck:
    def __init__(self, beginning): pass
    def add(self, update): time.sleep(600)

child._STUCK_S, child.Recording = 1, Stuck
child.main()
"""


def test_one_that_is_stuck_ends_though_nobody_is_left_to_kill_it() -> None:
    beginning = Beginning(Place("file", "x.rrd"), "r", ("a",), ("m/s",), (1.0,), 100.0, ())
    started = ShowProcess(beginning, (sys.executable, "-c", STUCK))
    started.send(Update(0.0, (), None, "waiting", "", "", {}))
    assert started._process.wait(60) == -signal.SIGALRM
    started.kill()


def test_one_that_nobody_waits_for_after_a_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "PATIENCE_S", 600)
    with pytest.raises(KeyboardInterrupt), shown(SLEEPS, []) as showing:  # noqa: PT012
        seen = showing.watching(Camera(FRAME))
        while showing.shown_frames == showing.frames or showing._process is None:
            seen.read()
            time.sleep(0.15)
        process = showing._process._process
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert process.wait(10) == -signal.SIGKILL
