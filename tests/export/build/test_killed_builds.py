"""A build that is killed at any moment leaves the plan in use whole, and nothing that the next does not remove."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx")

SUPPORT = Path(__file__).parents[2] / "support"
KILLS = 50


def test_fifty_kills_leave_the_plan_in_use_whole(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_of("pure", "none", "fp16"), folder)
    command = [sys.executable, str(SUPPORT / "killed_builds.py"), str(folder), "7", str(KILLS)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SUPPORT)}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["findings"] == []
    assert len(told["moments"]) == KILLS
    assert len(set(told["moments"])) > KILLS // 2
    assert told["with_leftovers"] > KILLS // 4  # else they came too early or too late to prove anything
