"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_control_loop_stops_on_a_fault_goes_on_after_a_reset_and_ends_with_a_stop(
    pristine_bundle: Path,
) -> None:
    script = EXAMPLES / "02_control_loop" / "loop.py"
    done = subprocess.run(
        [sys.executable, script, pristine_bundle], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[1::2][:3] == ["driving"] * 3
    assert lines[6:8] == [
        "move +0.000 +0.000 m/s",
        "the frame has shape [480, 640] instead of [height, width, 3].",
    ]
    assert lines[-2:] == ["reset: driving", "move +0.000 +0.000 m/s"]


def test_one_action_is_printed_with_the_engine_that_gave_it(pristine_bundle: Path) -> None:
    photograph = EXAMPLES.parent / "export" / "images" / "coffee.jpg"
    command = [sys.executable, EXAMPLES / "01_one_action" / "act.py", pristine_bundle, photograph]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "m/s, linear_y" in done.stdout
    assert "onnxruntime" in done.stdout
