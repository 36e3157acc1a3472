"""Imports run one way, between rooms too, and in no circle: the contracts in pyproject.toml are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONTRACTS = Path(__file__).parents[1] / "pyproject.toml"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_run_one_way() -> None:
    done = lint_imports(CONTRACTS.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_folder_must_be_given_its_layer(tmp_path: Path) -> None:
    forgotten = tmp_path / "pyproject.toml"
    forgotten.write_text(
        CONTRACTS.read_text(encoding="utf-8").replace("run | replay | drive", "run | replay")
    )
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "vla_edge.runtime.drive" in done.stdout
