"""Golden frames: the packaged ones, or a folder's in natural order."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.export.bundle.samples.frames import golden_frames
from vla_edge.runtime.errors import InputError


def test_frames_of_a_folder_come_in_the_order_in_which_they_were_taken(tmp_path: Path) -> None:
    for at in (10, 9, 1, 2, 3, 4, 5, 6, 7, 8):
        (tmp_path / f"frame{at}.png").touch()
    for name in ("._frame0.png", ".frame0.png", "Thumbs.db"):
        (tmp_path / name).touch()
    assert [frame.name for frame in golden_frames(tmp_path)] == [f"frame{at}.png" for at in range(1, 11)]


def test_hidden_files_do_not_make_up_the_eight(tmp_path: Path) -> None:
    for at in range(7):
        (tmp_path / f"{at}.png").touch()
        (tmp_path / f"._{at}.png").touch()
    with pytest.raises(InputError, match="holds 7 images; golden samples need at least eight"):
        golden_frames(tmp_path)


def test_the_packaged_frames_are_photographs_and_patterns() -> None:
    frames = golden_frames()
    assert len(frames) >= 8
    assert {"coffee.jpg", "glare"} <= {frame.name for frame in frames}
