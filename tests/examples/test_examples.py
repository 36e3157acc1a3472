"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_control_loop_stops_on_a_fault_goes_on_after_a_reset_and_ends_with_a_stop(
    pristine_bundle: Path,
) -> None:
    script = EXAMPLES / "04_control_loop" / "loop.py"
    done = subprocess.run(
        [sys.executable, script, pristine_bundle], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[1::2][:3] == ["driving"] * 3
    assert lines[6:8] == [
        "move +0.000 +0.000 m/s",
        "the frame has shape [480, 640] instead of [height, width, 3].",
    ]
    assert lines[12] == "reset"
    assert lines[13].startswith("move ")
    assert lines[13] != "move +0.000 +0.000 m/s"
    assert lines[14:] == ["driving", "the end of the block stops the robot:", "move +0.000 +0.000 m/s"]


def test_one_action_is_printed_with_the_engine_that_gave_it(pristine_bundle: Path) -> None:
    photograph = EXAMPLES.parent / "export" / "images" / "coffee.jpg"
    command = [sys.executable, EXAMPLES / "01_one_action" / "act.py", pristine_bundle, photograph]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "m/s, linear_y" in done.stdout
    assert "onnxruntime" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["01_one_action/act.py"], "usage: act.py [-h] bundle image\n"),
        (["01_one_action/act.py", "BUNDLE"], "arguments are required: image"),
        (["01_one_action/act.py", "BUNDLE", "nope.png"], "nope.png cannot be read: No such file"),
        (["01_one_action/act.py", "nope", "nope.png"], "nope does not exist."),
        (["04_control_loop/loop.py"], "usage: loop.py [-h] bundle\n"),
        (["04_control_loop/loop.py", "nope"], "nope does not exist."),
    ],
)
def test_wrong_use_ends_with_words_and_exit_code_2(
    pristine_bundle: Path, arguments: list[str], words: str
) -> None:
    script, *rest = (str(pristine_bundle) if each == "BUNDLE" else each for each in arguments)
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *rest], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 2
