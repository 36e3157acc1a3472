"""A bare `pytest` neither fills the disk nor needs a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FULL, GPU = "export/test_full.py", "bench/watch/test_nvml.py"


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Where CUDA has no GPU."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=TESTS.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "xdist"])
def test_full_size_and_gpu_tests_are_skipped_with_a_reason(workers: tuple[str, ...]) -> None:
    done = run_pytest(*workers, *(f"tests/{path}" for path in (FULL, GPU)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED [2] tests/export/test_full.py" in done.stdout
    assert "writes 20 GB: run it with -m full" in done.stdout
    assert "no NVIDIA GPU here; -m gpu runs it all the same" in done.stdout


def test_m_gpu_runs_gpu_tests_wherever_it_is() -> None:
    done = run_pytest("-m", "gpu", f"tests/{GPU}")
    assert "no NVIDIA GPU here" not in done.stdout
    assert " skipped" not in done.stdout
