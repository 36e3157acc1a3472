"""The wheels' side stops when datagrams cease, whatever else comes, and however it ends.

With commands of `vla-drive` itself: tests/runtime/drive/test_udp_robot.py.
"""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example_process import lines_until, run_example, started

EXAMPLE = "06_udp_robot/receiver.py"
GOOD: dict[str, Any] = {
    "run": "a",
    "seq": 1,
    "hold_ms": 200,
    "stop": False,
    "values": {"x": 0.5},
    "reason": "",
}
CEASED = "move STOP: no datagram came in time"


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


@pytest.fixture
def receiver(port: int) -> Iterator[subprocess.Popen[str]]:
    entry = f":{port:04X} "
    with started(EXAMPLE, port) as process:
        deadline_s = time.monotonic() + 20
        while entry not in Path("/proc/net/udp").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        yield process


@pytest.fixture
def wire(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.connect(("127.0.0.1", port))
        yield wire


def test_what_is_no_datagram_moves_nothing(receiver: subprocess.Popen[str], wire: socket.socket) -> None:
    for change in (
        {"hold_ms": 0},
        {"hold_ms": math.nan},
        {"hold_ms": "1"},
        {"seq": None},
        {"seq": math.inf},
        {"values": {"x": math.nan}},
        {"values": {"x": 10**400}},
        {"values": 1},
        {"values": {"\ud800": 0.5}},
        {"reason": 7},
    ):
        wire.send(json.dumps({**GOOD, **change}).encode())
    for junk in (b"", b"\xff", b"[" * 2000, b"[]", b"{}", b"null"):
        wire.send(junk)
    wire.send(json.dumps(GOOD).encode())
    assert lines_until(receiver, CEASED) == ["move x=+0.500 ", CEASED]


def test_words_that_cannot_be_printed_do_not_end_it(
    receiver: subprocess.Popen[str], wire: socket.socket
) -> None:
    wire.send(json.dumps({**GOOD, "stop": True, "reason": "a \ud800\x1b[2Jfault."}).encode())
    assert lines_until(receiver, CEASED) == ["move a [2Jfault.", CEASED]


def test_a_flood_of_what_is_passed_over_does_not_keep_the_wheels_turning(
    receiver: subprocess.Popen[str], wire: socket.socket
) -> None:
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            wire.send(json.dumps(GOOD).encode())

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert lines_until(receiver, CEASED) == ["move x=+0.500 ", CEASED]
    finally:
        over.set()
        thread.join()


def test_no_datagram_holds_for_longer_than_half_a_second(
    receiver: subprocess.Popen[str], wire: socket.socket
) -> None:
    wire.send(json.dumps({**GOOD, "hold_ms": 1e9}).encode())
    assert lines_until(receiver, CEASED) == ["move x=+0.500 ", CEASED]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_wheels(
    receiver: subprocess.Popen[str], wire: socket.socket, number: signal.Signals, code: int
) -> None:
    wire.send(json.dumps({**GOOD, "hold_ms": 400}).encode())
    lines_until(receiver, "move x=+0.500")
    receiver.send_signal(number)
    assert receiver.communicate(timeout=30)[0].splitlines()[-1] == "move STOP: the receiver ends"
    assert receiver.returncode == code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "arguments are required: port"), (["x"], "invalid int value"), (["99999"], "port must be 0-65535")],
)
def test_wrong_use_ends_with_words_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run_example(EXAMPLE, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
