"""Imports run one way, between rooms too, and in no circle: the contracts in pyproject.toml are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.cli import lint_imports


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    code = lint_imports(config_filename=str(Path(__file__).parents[1] / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_a_new_folder_must_be_given_its_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(kept.replace('"run | control"', '"run"'), encoding="utf-8")
    assert lint_imports(config_filename=str(tmp_path / "pyproject.toml"), no_cache=True) == 1
    assert "vla_edge.runtime.control" in capsys.readouterr().out
