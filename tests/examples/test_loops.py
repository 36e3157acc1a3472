"""The loops stop the robot on a fault, on Ctrl-C and on SIGTERM."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from example_process import command_of, lines_until, run_example, started
from tiny_bundle import DEFAULT, LEFT

FIXED_RATE = "05_fixed_rate/drive.py"
LOOSE = "the camera failed: OSError: the plug is loose"


def moves(line: str) -> bool:
    return not line.startswith("+0.000 +0.000")


def test_a_loose_plug_stops_the_robot_until_somebody_resets(pristine_bundle: Path) -> None:
    with started(FIXED_RATE, pristine_bundle, 6) as process:
        before = lines_until(process, LOOSE)
        assert moves(before[-2])
        assert process.stdin is not None
        lines_until(process, LOOSE)
        lines_until(process, LOOSE)
        lines_until(process, LOOSE)
        process.stdin.write("\n")
        process.stdin.flush()
        after = process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == 0
    assert any(moves(line) for line in after[:-3])
    assert after[-4] == "+0.000 +0.000 the camera has ended."
    assert after[-2] == "stops: camera 1, end 1"


def test_an_instruction_from_the_terminal_is_followed_and_a_wrong_one_changes_nothing(
    pristine_bundle: Path,
) -> None:
    with started(FIXED_RATE, pristine_bundle, 60) as process:
        lines_until(process, DEFAULT)
        assert process.stdin is not None
        process.stdin.write(f"dance\n{LEFT}\n")
        process.stdin.flush()
        between = lines_until(process, LEFT)[:-1]
        assert [line for line in between if not line.endswith(DEFAULT)] == []
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_without_a_reset_it_stands(pristine_bundle: Path) -> None:
    with started(FIXED_RATE, pristine_bundle, 1.5) as process:
        lines_until(process, LOOSE)
        rest = process.communicate(timeout=30)[0].splitlines()
    assert [line for line in rest[:-3] if moves(line)] == []
    assert rest[-2] == "stops: camera 1"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_stopped(pristine_bundle: Path, number: signal.Signals, code: int) -> None:
    with started(FIXED_RATE, pristine_bundle, 60) as process:
        for line in process.stdout or ():
            if moves(line):
                break
        process.send_signal(number)
        last = process.communicate(timeout=30)[0].splitlines()[-1]
    assert process.returncode == code
    assert last == f"+0.000 +0.000 the program was told to end by {number.name}."


HANGING = """
import runpy, sys, threading
from vla_edge.runtime.engines.onnxruntime import OnnxRuntimeSession as Session
run, times = Session.run, iter(range(10**6))

def hang(self, *arguments):
    if next(times) > 4:
        threading.Event().wait(600)
    return run(self, *arguments)

Session.run = hang
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_what_ends_it_where_the_engine_hangs(
    pristine_bundle: Path, number: signal.Signals, code: int
) -> None:
    _, *command = command_of(FIXED_RATE, pristine_bundle, 60)
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines_until(process, "the policy has not answered for")
        process.send_signal(number)
        said, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "the policy has not answered for" in said.splitlines()[-1]
    assert errors.endswith("\nleft to the end of the process: this policy is in use by another thread.\n")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "arguments are required: bundle"),
        (["nope"], "nope does not exist."),
        (["nope", "x"], "invalid float value: 'x'"),
    ],
)
def test_wrong_use_ends_with_words_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run_example(FIXED_RATE, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
