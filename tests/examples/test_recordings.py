"""A video becomes a row a frame; instructions are followed one after another."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from example_process import PHOTOGRAPH, run_example, started
from PIL import Image
from tiny_bundle import DEFAULT, ENGLISH, LEFT

from vla_edge.runtime import Policy, open_episodes

VIDEO = "02_video_to_csv/video.py"
INSTRUCTIONS = "03_instructions/instructions.py"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, five a second."""
    path, rng = tmp_path_factory.mktemp("video") / "drive.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for _ in range(6):
            pixels = np.kron(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_a_video_becomes_a_row_a_frame(video: Path, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle, target = make_bundle(carried=True), tmp_path / "actions.csv"
    done = run_example(VIDEO, bundle, video, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("drive.mp4: 6 frames, onnxruntime")
    with target.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["episode", "frame", "time_s", "linear_x [m/s]", "linear_y [m/s]", "total_ms"]
    assert [row[:3] for row in rows] == [["drive.mp4", str(at), f"{at / 5:.3f}"] for at in range(6)]
    with Policy.load(bundle) as policy:
        (episode,) = open_episodes(video)
        expected = [[f"{value:.4f}" for value in policy.act(frame).values] for frame in episode.frames()]
    assert [row[3:5] for row in rows] == expected


def test_a_file_that_is_there_is_kept(video: Path, pristine_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "actions.csv"
    target.write_text("mine")
    done = run_example(VIDEO, pristine_bundle, video, target)
    assert (done.returncode, target.read_text()) == (2, "mine")
    assert done.stderr == f"{target}: File exists\n"


def test_what_is_no_video_is_refused_and_nothing_written(pristine_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    done = run_example(VIDEO, pristine_bundle, tmp_path / "drive.mp4", tmp_path / "actions.csv")
    assert done.returncode == 2
    assert "drive.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "actions.csv").exists()


def test_every_instruction_of_the_bundle_is_followed(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(frame="first")  # refuses another instruction without a reset
    done = run_example(INSTRUCTIONS, bundle, PHOTOGRAPH)
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[0] for line in lines] == [DEFAULT, LEFT, ENGLISH]
    assert len({line[1] for line in lines}) == 3


def test_an_instruction_that_it_does_not_hold_is_refused_with_the_nearest(pristine_bundle: Path) -> None:
    done = run_example(INSTRUCTIONS, pristine_bundle, PHOTOGRAPH, "go to the cap", LEFT)
    assert done.returncode == 1
    assert "Did you mean 'go to the cup'?" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(LEFT)


@pytest.mark.parametrize(
    ("example", "arguments", "words"),
    [
        (VIDEO, ["nope", "nope.mp4"], "arguments are required: csv"),
        (VIDEO, ["nope", "nope.mp4", "out.csv"], "nope.mp4"),
        (INSTRUCTIONS, ["nope"], "arguments are required: image"),
        (INSTRUCTIONS, ["nope", "nope.png"], "nope does not exist."),
    ],
)
def test_wrong_use_ends_with_words_and_exit_code_2(example: str, arguments: list[str], words: str) -> None:
    done = run_example(example, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_the_rows_so_far(pristine_bundle: Path, tmp_path: Path) -> None:
    folder, target = tmp_path / "frames", tmp_path / "actions.csv"
    folder.mkdir()
    Image.new("RGB", (64, 48), (200, 100, 50)).save(folder / "0.png")
    for at in range(1, 20_000):
        os.link(folder / "0.png", folder / f"{at}.png")
    with started(VIDEO, pristine_bundle, folder, target) as process:
        deadline_s = time.monotonic() + 30
        while not (target.exists() and target.stat().st_size):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 130
    with target.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert [row[1] for row in rows] == [str(at) for at in range(len(rows))]
    assert 0 < len(rows) < 20_000
