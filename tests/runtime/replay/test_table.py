"""The table of a replay fits a terminal, and the worst of many episodes are what it shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.replay.summary import Kept
from vla_edge.runtime.replay.table import MOST_ROWS, print_table

SPEC = ActionSpec(
    names=("linear_x", "linear_y"),
    units=("m/s", "m/s"),
    scale=(2.0, 2.0),
    offset=(0.0, 0.0),
    limit=(1.15, 1.15),
)


def kept(name: str, error: float) -> Kept:
    errors = np.full((3, 2), error)
    nothing = np.zeros((3, 2), bool)
    return Kept(name, Path(name), errors, np.full(3, 7.5), nothing, np.full(3, 4.25), 0, None, None)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    return Shown(monkeypatch, capsys)


class Shown:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, episodes: list[Kept], columns: int | None = None, against: bool = False) -> list[str]:
        if columns:
            self._monkeypatch.setenv("COLUMNS", str(columns))
            self._monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        print_table(episodes, SPEC, against)
        return self._capsys.readouterr().out.splitlines()


LONG = "episode_20250808_123136_1box_vert_left.h5"


def test_in_a_file_a_row_has_everything(shown: Shown) -> None:
    titles, units, row = shown([kept(LONG, 0.25)], against=True)
    assert titles.split() == ["linear_x", "linear_y", "angle", "flips", "apart", "p50", "episode"]
    assert units.split() == ["m/s", "m/s", "deg", "steps", "m/s", "ms"]
    assert row.split() == ["0.2500", "0.2500", "7.5", "0", "-", "4.2", LONG]


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_lost(shown: Shown, columns: int) -> None:
    lines = shown([kept(LONG, 0.25), kept("b", 0.5)], columns, against=True)
    assert max(map(len, lines)) <= columns
    text = " ".join(lines)
    for word in ("linear_x", "angle", "apart", "p50", "0.2500", "0.5000", "7.5", "4.2"):
        assert word in text


def test_of_many_episodes_the_worst_are_shown(shown: Shown) -> None:
    lines = shown([kept(f"episode_{at}", 0.01 * at) for at in range(30)])
    assert lines[0].startswith(f"The {MOST_ROWS} episodes that are furthest off, of 30")
    names = [re.findall(r"episode_\d+", line)[0] for line in lines[3:]]
    assert names == [f"episode_{at}" for at in range(29, 9, -1)]
