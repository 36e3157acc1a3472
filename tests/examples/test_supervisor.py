"""The supervisor keeps the robot standing while the policy is down, starts it again, and leaves nothing behind."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from example_process import command_of, lines_until, run_example, started
from PIL import Image

EXAMPLE = "07_supervisor/supervisor.py"
DRIVES = "move linear_x="


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of them."""
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    for at in range(600):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / f"{at}.png")
    return folder


@pytest.fixture
def policy(port: int, frames: Path, pristine_bundle: Path) -> tuple[str, ...]:
    """The real one, on a CPU that others use as well."""
    drive = str(Path(sys.executable).with_name("vla-drive"))
    wire = f"udp://127.0.0.1:{port}"
    return (drive, str(pristine_bundle), "--camera", str(frames), "--robot", wire, "--deadline", "5000")


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_killed_policy_is_started_again_and_the_robot_stands_meanwhile(
    port: int, policy: tuple[str, ...]
) -> None:
    with started(EXAMPLE, port, "--", *policy) as process:
        lines_until(process, DRIVES)
        first = child_of(process)
        os.kill(first.pid, signal.SIGKILL)
        until_dead = lines_until(process, "the policy ended with -9")
        assert until_dead[-1] == "move STOP: the policy ended with -9"
        down = lines_until(process, DRIVES)[:-1]
        assert len(down) > 20
        assert [line for line in down if line.startswith(DRIVES)] == []
        assert "move STOP: waiting to start the policy again" in down
        second = child_of(process)
        assert second.pid != first.pid
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[0].splitlines()
        assert process.returncode == 143
        assert [line for line in rest if line.startswith("move")][-1] == "move STOP: the supervisor ends"
        assert not psutil.pid_exists(second.pid)


def test_a_policy_that_hangs_is_killed_and_started_again(port: int, policy: tuple[str, ...]) -> None:
    with started(EXAMPLE, port, "--", *policy) as process:
        lines_until(process, DRIVES)
        hung = child_of(process)
        os.kill(hung.pid, signal.SIGSTOP)
        lines = lines_until(process, "the policy ended with -9")
        assert lines[-2:] == [
            "move STOP: the policy hangs and is killed",
            "move STOP: the policy ended with -9",
        ]
        assert not psutil.pid_exists(hung.pid)
        lines_until(process, DRIVES)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130


def test_where_the_supervisor_is_killed_the_policy_ends_by_itself(port: int, policy: tuple[str, ...]) -> None:
    with started(EXAMPLE, port, "--", *policy) as process:
        lines_until(process, DRIVES)
        child = child_of(process)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs([child], timeout=30)
        assert alive == []


def test_it_gives_up_after_so_many_crashes_in_a_row(port: int) -> None:
    crash = python("import os; print('hello', flush=True); os.kill(os.getpid(), 9)")
    done = run_example(EXAMPLE, port, "--attempts", 2, "--", *crash)
    assert done.returncode == 1
    assert done.stdout.count("hello") == 2
    assert done.stdout.splitlines()[-2:] == [
        "the policy ended with -9, 2 in a row: not started again",
        "move STOP: the supervisor ends",
    ]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_policy_that_has_said_how_it_ended_is_not_started_again(port: int, code: int) -> None:
    done = run_example(EXAMPLE, port, "--", *python(f"print('hello', flush=True); raise SystemExit({code})"))
    assert (done.returncode, done.stdout.count("hello")) == (code, 1)


def test_one_that_does_not_end_when_it_is_asked_to_is_killed(port: int) -> None:
    deaf = python(
        "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    )
    with started(EXAMPLE, port, "--", *deaf) as process:
        lines_until(process, "deaf")
        child = child_of(process)
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=30)[0]
        assert process.returncode == 143
        assert "does not end and is killed" in out
        assert not psutil.pid_exists(child.pid)


def test_what_is_no_command_moves_nothing(port: int) -> None:
    silent = python("import signal; print('up', flush=True); signal.pause()")
    good = {
        "run": "a",
        "seq": 1,
        "time_s": 0.0,
        "hold_ms": 400,
        "stop": False,
        "values": {"x": 0.5},
        "reason": "",
    }
    bad = [
        {"hold_ms": 0},
        {"hold_ms": math.nan},
        {"hold_ms": "1"},
        {"time_s": -10.0},  # so much older
        {"time_s": 10.0},
        {"seq": 0},
        {"seq": None},
        {"values": {"x": math.inf}},
        {"values": {"x": 10**400}},
        {"values": [1]},
        {"values": {"\ud800": 0.5}},
        {"run": ""},
        {"reason": 7},
        {"run": 3, "values": {"x": None}},
    ]
    with started(EXAMPLE, port, "--", *silent) as process:
        lines_until(process, "up")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.connect(("127.0.0.1", port))
            for change in bad:
                said = {**good, **change}
                said["time_s"] = time.monotonic() + said["time_s"]
                wire.send(json.dumps(said).encode())
            for junk in (b"", b"\xff", b"[" * 2000, b"[]", b'"x"', b"{}"):
                wire.send(junk)
            wire.send(json.dumps({**good, "time_s": time.monotonic()}).encode())
        before = lines_until(process, "move x=+0.500")[:-1]
        assert {line.split()[1] for line in before if line.startswith("move")} <= {"STOP:"}
        assert lines_until(process, "STOP") != []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "arguments are required: port, command"),
        (["5005"], "arguments are required: command"),
        (["5005", "--", "/no/such/program"], "No such file or directory"),
        (["99999", "--", "true"], "port must be 0-65535"),
        (["x", "--", "true"], "invalid int value: 'x'"),
    ],
)
def test_wrong_use_ends_with_words_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run_example(EXAMPLE, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", port))
        done = subprocess.run(
            command_of(EXAMPLE, port, "--", "true"), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
