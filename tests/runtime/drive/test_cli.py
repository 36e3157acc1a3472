"""`vla-drive` as a user runs it: a recording drives, faults and signals stop, what was sent is written."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime.drive.cli import main

Run = Callable[..., int]
SLOW = ("--deadline", "2000", "--threads", "1")  # a busy machine is no fault here


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vla-drive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of fifteen lively photographs."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at in range(15):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"frame{at}.png")
    return folder


def sent_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_recording_is_driven_to_its_end_between_two_stops(
    run: Run, pristine_bundle: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    assert run(pristine_bundle, "--camera", frames, "--rate", 40, "-o", log, *SLOW) == 0
    sent = sent_in(log)
    assert not sent[0]["moving"]
    assert (sent[-1]["moving"], sent[-1]["reason"]) == (False, "the camera has ended.")
    moving = [command for command in sent if command["moving"]]
    assert len(moving) > 3
    assert moving[0]["instruction"] == "컵까지 가세요"
    assert set(moving[0]["values"]) == {"linear_x", "linear_y"}
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith("stopped  the camera has ended.")
    assert any(line.startswith("moving   ") and "m/s" in line and "Hz, " in line for line in shown)


def test_a_csv_has_a_row_a_command_with_units_in_its_columns(
    run: Run, pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    assert run(pristine_bundle, "--camera", frames, "--rate", 40, "-o", log, *SLOW) == 0
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "time_s",
        "moving",
        "linear_x_mps",
        "linear_y_mps",
        "latency_ms",
        "instruction",
        "reason",
    ]
    assert (rows[0]["moving"], rows[-1]["reason"]) == ("false", "the camera has ended.")
    moving = [row for row in rows if row["moving"] == "true"]
    assert moving[0]["instruction"] == "컵까지 가세요"
    assert all(float(row["latency_ms"]) > 0 and not row["reason"] for row in moving)


def test_a_fault_that_stands_at_the_end_is_code_1(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "frame7.png").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    assert run(pristine_bundle, "--camera", frames, "--rate", 40, *SLOW) == 1
    assert "error: the robot is stopped: the camera failed:" in capsys.readouterr().err


def test_a_screen_that_cannot_be_written_to_leaves_the_file_whole(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()"]
    options = ["--camera", str(frames), "--rate", "40", "-o", str(log), *SLOW]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, str(pristine_bundle), *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: a disk is full."
    assert sent_in(log)[-1]["reason"] == "the camera has ended."


def test_a_reader_that_takes_nothing_keeps_neither_the_file_nor_the_end_waiting(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()"]
    options = ["--camera", str(frames), "--rate", "20", "-o", str(log), *SLOW]
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b" " * 4096)
    os.set_blocking(theirs, True)
    with subprocess.Popen([*command, str(pristine_bundle), *options], stdout=theirs) as process:
        os.close(theirs)
        assert process.wait(60) == 0
    os.close(ours)
    assert sent_in(log)[-1]["reason"] == "the camera has ended."


def test_a_terminal_that_rewrites_no_lines_gets_new_ones_and_is_told_what_enter_does(
    pristine_bundle: Path, frames: Path
) -> None:
    (frames / "frame4.png").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    command = [sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()"]
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*command, str(pristine_bundle), "--camera", str(frames), *SLOW],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb"},
    ) as process:
        os.close(theirs)
        drain(ours, text := bytearray())
    lines = text.decode().splitlines()
    assert any(line.startswith("moving ") for line in lines)
    assert len([line for line in lines if line.endswith("Enter goes on, Ctrl-C ends.")]) == 1
    assert process.returncode == 1


def test_one_that_is_to_end_it_ends_it(run: Run, pristine_bundle: Path, frames: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(frames / "frame3.png")
    log = tmp_path / "log.jsonl"
    assert run(pristine_bundle, "--camera", frames, "--rate", 20, "--end-on-fault", "-o", log, *SLOW) == 1
    assert "the frame shows nothing" in sent_in(log)[-1]["reason"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--camera", "7"), "there is no camera /dev/video7"),
        (("--camera", "FRAMES", "--robot", "serial"), "serial is no robot"),
        (("--camera", "FRAMES", "--instruction", "go home"), "does not hold the instruction 'go home'"),
        (("--camera", "http://cam/1"), "http://cam/1 is no stream that is read"),
        (("--camera", "FRAMES", "--rate", "1"), "leaves 1000 ms between two commands"),
        (
            ("--camera", "FRAMES", "--chunk-step", "50"),
            "the policy predicts 1 step, which chunk_step_ms=50 ends after 50 ms, and rate_hz=10 leaves 100 ms",
        ),
        (("--camera", "FRAMES", "-o", "log.txt"), "give one that ends in .csv or .jsonl or .ndjson"),
        (("--camera", "FRAMES", "--show", "drive.mp4"), "drive.mp4 is no place to show a drive"),
        (("--camera", "FRAMES", "--rate", "nan"), "no finite number"),
        ((), "Missing option '--camera'. Give a recording to try it, as --camera drive.mp4"),
    ],
)
def test_wrong_use_ends_with_2_before_anything_moves(
    run: Run,
    pristine_bundle: Path,
    frames: Path,
    arguments: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(pristine_bundle, *(str(frames) if each == "FRAMES" else each for each in arguments)) == 2
    assert words.lower() in " ".join(capsys.readouterr().err.split()).lower()


@pytest.fixture
def wheels() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        wire.settimeout(30)
        yield wire


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_stops_the_robot_and_ends_with_its_code(
    name: str, pristine_bundle: Path, frames: Path, wheels: socket.socket, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    robot = f"udp://127.0.0.1:{wheels.getsockname()[1]}"
    command = [sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()"]
    options = ["--camera", str(frames), "--rate", "2", "--hold", "3000", "--robot", robot, "-o", str(log)]
    with subprocess.Popen(
        [*command, str(pristine_bundle), *options, *SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while json.loads(wheels.recv(2048))["stop"]:
            pass
        process.send_signal(signal.Signals[name])
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name]
    assert "Traceback" not in errors
    wheels.settimeout(0.2)
    last = None
    while (data := received(wheels)) is not None:
        last = json.loads(data)
    assert last is not None
    assert last["stop"]
    assert f"told to end by {name}" in last["reason"]
    assert (tmp_path / "log.jsonl.partial").exists()


def received(wire: socket.socket) -> bytes | None:
    try:
        return wire.recv(2048)
    except TimeoutError:
        return None


def test_the_parents_death_stops_it(pristine_bundle: Path, frames: Path, wheels: socket.socket) -> None:
    robot = f"udp://127.0.0.1:{wheels.getsockname()[1]}"
    child = "from vla_edge.runtime.command.start import vla_drive; vla_drive()"
    arguments = [
        str(pristine_bundle),
        "--camera",
        str(frames),
        "--rate",
        "2",
        "--hold",
        "3000",
        "--robot",
        robot,
        *SLOW,
    ]
    parent = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {child!r}, *{arguments!r}])
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while json.loads(wheels.recv(2048))["stop"]:
            pass
        process.kill()
        killed_s = time.monotonic()
    while not (said := json.loads(wheels.recv(2048)))["stop"]:
        pass
    assert said["reason"] == "the process that started this one has ended."
    assert time.monotonic() - killed_s < 2  # of frames for 7 s


LOADING = """
import os, time
from vla_edge.runtime.command.start import vla_drive
from vla_edge.runtime.policy import Policy
load, parent = Policy.load, os.getppid()

def load_for_long(*arguments, **named):
    print("loading", flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    return load(*arguments, **named)

Policy.load = load_for_long
vla_drive()
"""


def test_the_parents_death_while_the_policy_is_loaded_is_seen_too(
    pristine_bundle: Path, frames: Path, wheels: socket.socket, tmp_path: Path
) -> None:
    robot = f"udp://127.0.0.1:{wheels.getsockname()[1]}"
    arguments = [str(pristine_bundle), "--camera", str(frames), "--robot", robot, *SLOW]
    parent = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {LOADING!r}, *{arguments!r}])
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "loading\n"
        process.kill()
        told = process.stderr.read()  # until the orphan has ended, too
    assert "error: the process that started this one has ended." in told
    assert "--outlive-parent" in told
    wheels.settimeout(0.2)
    assert received(wheels) is None


HANGING = """
import threading
from vla_edge.runtime.engines.onnxruntime import OnnxRuntimeSession as Session
run, times = Session.run, iter(range(10**6))

def hang(self, *arguments):
    if next(times) > 4:
        threading.Event().wait(600)
    return run(self, *arguments)

Session.run = hang
from vla_edge.runtime.command.start import vla_drive
vla_drive()
"""


def test_an_engine_that_hangs_keeps_neither_the_robot_moving_nor_the_command_from_its_end(
    pristine_bundle: Path, frames: Path, wheels: socket.socket
) -> None:
    robot = f"udp://127.0.0.1:{wheels.getsockname()[1]}"
    options = [
        "--camera",
        str(frames),
        "--rate",
        "20",
        "--robot",
        robot,
        "--deadline",
        "400",
        "--end-on-fault",
    ]
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(pristine_bundle), *options, "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the engine has not come back; the robot was stopped without it" in done.stderr
    wheels.settimeout(0.2)
    said = []
    while (data := received(wheels)) is not None:
        said.append(json.loads(data))
    assert any(not command["stop"] for command in said)
    assert said[-1]["stop"]
    assert "the policy has not answered for" in said[-1]["reason"]


def test_enter_on_the_terminal_drives_on_after_a_fault(
    pristine_bundle: Path, frames: Path, wheels: socket.socket
) -> None:
    (frames / "frame4.png").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    robot = f"udp://127.0.0.1:{wheels.getsockname()[1]}"
    command = [sys.executable, "-c", "from vla_edge.runtime.command.start import vla_drive; vla_drive()"]
    options = ["--camera", str(frames), "--rate", "4", "--hold", "3000", "--robot", robot, *SLOW]
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*command, str(pristine_bundle), *options],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = threading.Thread(target=drain, args=(ours, text := bytearray()))
        shown.start()
        while "the camera failed" not in json.loads(wheels.recv(2048))["reason"]:
            pass
        while b"stopped  the camera failed" not in text or b"Enter goes on" not in text:
            assert process.poll() is None
            time.sleep(0.01)
        os.write(ours, b"\n")
        while json.loads(wheels.recv(2048))["stop"]:
            pass
        assert process.wait(60) == 0
        shown.join()


def drain(terminal: int, text: bytearray) -> None:
    with contextlib.suppress(OSError):  # the other end was closed
        while data := os.read(terminal, 4096):
            text += data
    os.close(terminal)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_a_bundle_with_a_camera_is_driven_by_frames_of_its_size(
    run: Run, make_bundle: Callable[..., Path], frames: Path, tmp_path: Path, channels: str
) -> None:
    log = tmp_path / "log.jsonl"
    bundle = make_bundle(camera=(48, 64, channels))
    assert run(bundle, "--camera", frames, "--rate", 40, "-o", log, *SLOW) == 0
    assert sum(command["moving"] for command in sent_in(log)) > 3


def test_a_recording_of_another_size_than_the_bundles_camera_is_refused_before_it_starts(
    run: Run, make_bundle: Callable[..., Path], frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(camera=(40, 64, "rgb"))
    assert run(bundle, "--camera", frames, *SLOW) == 2
    shown = capsys.readouterr().err
    assert f"the first frame of {frames} is 64 pixels wide and 48 high" in shown
    assert "vla-export --camera 48x64" in shown
