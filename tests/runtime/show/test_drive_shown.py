"""`vla-drive --show` as a user runs it: recordings read back, viewers that come and go, a drive that goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from rerun_files import names_in_layout, rows_in

DRIVE = (sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()")
SLOW = ("--deadline", "2000", "--hold", "3000", "--threads", "1")  # a busy machine is no fault here


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of thirty lively photographs, larger than what is shown."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at in range(30):
        Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(folder / f"frame{at}.jpg")
    return folder


def drive(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DRIVE, *map(str, arguments), *SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_drive_is_recorded_with_all_that_was_sent(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    log, show = tmp_path / "log.jsonl", tmp_path / "drive.rrd"
    with drive(pristine_bundle, "--camera", frames, "--rate", 10, "--show", show, "-o", log) as driving:
        _, errors = driving.communicate(timeout=60)
    assert driving.returncode == 0, errors
    assert "frames (at most 10 a second); " in errors
    assert f" a minute, in {show}" in errors
    assert [path.name for path in tmp_path.iterdir() if ".partial" in path.name] == []
    found = rows_in(show)
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ("linear_x", "linear_y"):
        shown = found[f"/command/{name}\\ \\[m\\/s\\]"]
        np.testing.assert_allclose([row.value for row in shown], [each["values"][name] for each in sent])
    latency = found["/latency/of\\ each\\ frame\\ \\[ms\\]"]
    assert {row.value for row in latency} <= {each["latency_ms"] for each in sent}
    said = [row.value for row in found["/log"]]
    assert said[-1] == "ended: the camera has ended."
    assert "moving" in said
    picture = Image.open(io.BytesIO(bytes(found["/camera"][-1].value)))
    assert (picture.format, picture.size) == ("JPEG", (480, 360))
    assert "컵까지 가세요" in found["/state"][-1].value
    plots = ["command [m/s], limit 1.15", "latency: capture to command [ms]"]
    assert set(names_in_layout(show)) >= {"camera", "state", *plots, "starts, stops and faults"}


def test_a_command_stands_at_the_number_of_its_frame(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    show = tmp_path / "drive.rrd"
    with drive(pristine_bundle, "--camera", frames, "--rate", 10, "--show", show) as driving:
        driving.communicate(timeout=60)
    found = rows_in(show)
    taken_s = {row.frame: row.time_s for row in found["/camera"]}
    for row in found["/latency/of\\ each\\ frame\\ \\[ms\\]"]:
        if row.frame in taken_s:
            assert row.time_s - taken_s[row.frame] >= row.value / 1e3 - 2e-3
    numbers = [row.frame for row in found["/latency/of\\ each\\ frame\\ \\[ms\\]"]]
    assert numbers == sorted(set(numbers))


def test_a_drive_that_is_killed_leaves_its_recording_whole(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    show = tmp_path / "drive.rrd"
    with drive(pristine_bundle, "--camera", frames, "--rate", 5, "--show", show) as driving:
        until(lambda: size(tmp_path / "drive.partial.rrd") > 500_000)
        driving.kill()
        until(show.exists)
    assert len(rows_in(show)["/camera"]) >= 2


def test_where_all_is_killed_what_was_there_a_second_before_can_be_read(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    growing = tmp_path / "drive.partial.rrd"
    with drive(pristine_bundle, "--camera", frames, "--rate", 5, "--show", tmp_path / "drive.rrd") as driving:
        until(lambda: size(growing) > 500_000)
        for process in [*psutil.Process(driving.pid).children(recursive=True), psutil.Process(driving.pid)]:
            process.kill()
    assert len(rows_in(growing)["/camera"]) >= 2


@contextmanager
def viewer() -> Iterator[tuple[str, psutil.Process]]:
    """Rerun's own server, which is what a viewer listens with; its address and its process."""
    import rerun_cli

    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(rerun_cli.__file__).with_name("rerun")
    command = [program, "--serve-grpc", "--bind", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: listens(port))
        try:
            yield f"rerun+http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.kill()


def listens(port: int) -> bool:
    with closing(socket.socket()) as wire:
        return wire.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_viewer_that_is_there_is_shown_all_of_it(pristine_bundle: Path, frames: Path) -> None:
    with (
        viewer() as (address, _),
        drive(pristine_bundle, "--camera", frames, "--rate", 10, "--show", address) as driving,
    ):
        _, errors = driving.communicate(timeout=60)
    assert driving.returncode == 0
    assert "The drive goes on" not in errors
    assert "shown: " in errors
    assert "shown: 0 of" not in errors


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_viewer_that_goes_away_or_hangs_is_a_note(
    how: signal.Signals, pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    with viewer() as (address, process):
        options = ("--rate", "5", "--show", address, "-o", log)
        with drive(pristine_bundle, "--camera", frames, *options) as driving:
            time.sleep(2.5)
            process.send_signal(how)
            _, errors = driving.communicate(timeout=60)
    assert driving.returncode == 0, errors
    assert errors.count("the viewer cannot be reached: ") == 1
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert sent[-1]["reason"] == "the camera has ended."
    assert {each["reason"] for each in sent} == {"", "no command yet.", "the camera has ended."}


def test_one_that_was_never_there_is_a_note(pristine_bundle: Path, frames: Path) -> None:
    with drive(
        pristine_bundle, "--camera", frames, "--rate", 20, "--show", "rerun+http://127.0.0.1:9"
    ) as driving:
        _, errors = driving.communicate(timeout=60)
    assert driving.returncode == 0
    assert "the viewer cannot be reached: ConnectionRefusedError: [Errno 111] Connection refused." in errors
    assert "The drive goes on; it is tried every 5 s." in errors


def test_ctrl_c_ends_a_shown_drive_at_once_and_keeps_the_recording(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    show = tmp_path / "drive.rrd"
    with drive(pristine_bundle, "--camera", frames, "--rate", 5, "--show", show) as driving:
        until(lambda: size(tmp_path / "drive.partial.rrd") > 500_000)
        os.kill(driving.pid, signal.SIGINT)
        _, errors = driving.communicate(timeout=60)
    assert driving.returncode == 130
    assert "Traceback" not in errors
    assert "told to end by SIGINT" in rows_in(show)["/log"][-1].value
