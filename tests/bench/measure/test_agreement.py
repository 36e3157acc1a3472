"""The user's own frames: which files they are, and in which order they are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.bench.measure.agreement import MAX_FRAMES, find_frames
from vla_edge.runtime.errors import InputError


def test_frames_come_in_the_order_in_which_they_were_taken(tmp_path: Path) -> None:
    for name in ("frame10.png", "frame2.png", "frame1.jpg", "frame3.ppm", "._frame1.png", "notes.txt"):
        (tmp_path / name).touch()
    found = [path.name for path in find_frames(tmp_path)]
    assert found == ["frame1.jpg", "frame2.png", "frame3.ppm", "frame10.png"]


def test_a_folder_that_is_missing_empty_or_too_full_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        find_frames(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no images"):
        find_frames(tmp_path)
    for at in range(MAX_FRAMES + 1):
        (tmp_path / f"{at}.png").touch()
    with pytest.raises(InputError, match=f"has {MAX_FRAMES + 1} images; at most {MAX_FRAMES} are compared"):
        find_frames(tmp_path)
