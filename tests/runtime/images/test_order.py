"""One natural order of frames for every command, and one rule for which files are frames."""

from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path

import pytest

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.images.order import images_in, natural_order


@pytest.mark.parametrize(
    "names",
    [
        ["frame1.png", "frame2.png", "frame10.png"],
        ["0.png", "1.png", "9.png", "10.png", "100.png"],
        ["frame.png", "frame1.png", "frame_1.png"],
        ["a1b2.png", "a1b10.png", "a2b1.png"],
        ["f007.png", "f8.png", "f0009.png"],
        ["f01.png", "f1.png", "f02.png", "f2.png"],  # equal numbers: by their characters
        ["Frame2.png", "frame10.png", "FRAME11.png"],
        [f"{9:0>4999}.png", f"{10:0>4999}.png", f"1{0:0>5000}.png"],  # more digits than int() takes
        ["1699999999.900000.png", "1700000000.100000.png"],
        ["컵2.png", unicodedata.normalize("NFD", "컵10.png"), "컵11.png"],
        ["a1.png", "a१०.png", "a२.png"],  # digits of another script are text
        ["a.jpg", "a.png"],
    ],
    ids=lambda names: names[0][:12],
)
def test_frames_are_sorted_as_people_count(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    for seed in range(5):
        shuffled = random.Random(seed).sample(paths, len(paths))
        assert sorted(shuffled, key=natural_order) == paths


def test_hidden_files_and_other_things_are_no_frames(tmp_path: Path) -> None:
    for name in ("2.png", "10.JPG", "1.webp", "._0.png", ".hidden.png", "Thumbs.db", "notes.txt", "3.png~"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["1.webp", "2.png", "10.JPG"]


def test_a_frame_that_cannot_be_read_stays_in_the_sequence(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "3.png")
    assert [path.name for path in images_in(tmp_path)] == ["1.png", "2.png", "3.png"]


def test_a_folder_without_images_and_one_that_is_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "._1.png").touch()
    with pytest.raises(InputError, match=r"holds no images\.") as raised:
        images_in(tmp_path)
    assert ".jpg" in raised.value.hint
    with pytest.raises(InputError, match=r"gone cannot be listed: No such file or directory\."):
        images_in(tmp_path / "gone")
