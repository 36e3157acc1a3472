"""`vla-run` prints actions, and goes on past a bad image without hiding it."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_files import Said, raw_image, twist, write_bag
from episode_files import FRAMES, even_frames, frames_of, write_hdf5, write_video
from PIL import Image

from vla_edge.runtime import Policy
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.run.cli import command, main
from vla_edge.runtime.run.images import list_images

Run = Callable[..., int]
Make = Callable[..., Path]
SIDES = ("left", "right")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vla-run", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def frames(tmp_path: Path, frame: np.ndarray) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for at in (2, 10, 1):
        Image.fromarray(np.roll(frame, at * 5, axis=1)).save(folder / f"frame{at}.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / "._frame1.png").write_bytes(b"left by macOS")
    return folder


def rows_of(text: str) -> list[str]:
    """The lines of a table between its head and the two below it."""
    lines = text.splitlines()
    return lines[2:-2]


def test_a_table_starts_with_the_instruction_that_is_followed_and_ends_with_the_engine(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "following '컵까지 가세요', the default of 3 instructions"
    assert lines[1].split() == ["linear_x", "m/s", "linear_y", "m/s", "image"]
    assert [Path(line.split()[-1]).name for line in lines[2:5]] == ["frame1.png", "frame2.png", "frame10.png"]
    assert all(re.match(r"\s+[+-]\d\.\d{4}\s+[+-]\d\.\d{4}  /", line) for line in lines[2:5])
    assert re.match(r"3 images; clamped to ±1\.15 m/s; p50 \d+\.\d ms a frame$", lines[5])
    assert re.match(r"onnxruntime \S+ fp32 on cpu: .* \[tiny [0-9a-f]{12}\]", lines[6])
    assert len(lines) == 7


def test_an_instruction_that_was_chosen_is_shown_without_the_word_default(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames, "--instruction", "go to the cup") == 0
    assert capsys.readouterr().out.splitlines()[0] == "following 'go to the cup'"


def test_an_action_that_a_limit_changed_is_marked(
    run: Run, make_bundle: Make, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make_bundle(limit=(0.1, 1.15)), frames) == 0
    out = capsys.readouterr().out
    assert all(line.endswith(".png (clamped)") for line in rows_of(out))
    assert "clamped to ±0.1, ±1.15 m/s" in out


def test_a_name_cannot_command_the_terminal(
    run: Run, pristine_bundle: Path, frame: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(frame).save(tmp_path / "a\x1b[2Jb.png")
    (tmp_path / "bad\x1b[2J.png").write_bytes(b"junk")
    assert run(pristine_bundle, tmp_path / "a\x1b[2Jb.png", tmp_path / "bad\x1b[2J.png") == 1
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "a\\x1b[2Jb.png" in shown.out


def test_json_is_one_object_a_line(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames, "--json", "--instruction", "go to the cup") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    assert set(rows[0]["action"]) == {"linear_x", "linear_y"}
    assert rows[0]["instruction"] == "go to the cup"
    assert rows[0]["engine"]["provider"] == "CPUExecutionProvider"
    assert rows[0]["image"] == str(frames / "frame1.png")


def test_a_bad_image_among_many_is_told_on_stderr_and_by_the_exit_code(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "frame2.png").write_bytes(b"junk")
    assert run(pristine_bundle, frames) == 1
    shown = capsys.readouterr()
    assert [line.rsplit("/", 1)[-1] for line in rows_of(shown.out)] == ["frame1.png", "frame10.png"]
    assert f"error: {frames / 'frame2.png'} is not an image." in shown.err
    assert "1 image of 3 could not be used." in shown.err


def test_a_bad_image_among_many_is_an_object_in_json_too(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "frame2.png").write_bytes(b"")
    assert run(pristine_bundle, frames, "--json") == 1
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert rows[1]["error"] == f"{frames / 'frame2.png'} is empty."
    assert "action" in rows[2]
    assert f"error: {frames / 'frame2.png'} is empty." in shown.err


def test_strict_stops_at_the_first_bad_image(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (frames / "frame2.png").write_bytes(b"junk")
    assert run(pristine_bundle, frames, "--strict") == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3  # instruction, head, frame1
    assert f"error: {frames / 'frame2.png'} is not an image." in err


def values_of(capsys: pytest.CaptureFixture[str]) -> list[list[float]]:
    return [json.loads(line)["raw"] for line in capsys.readouterr().out.splitlines()]


def test_a_sequence_carries_state_and_single_images_do_not(
    run: Run, make_bundle: Make, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, same = make_bundle(carried=True), frames / "frame1.png"
    run(bundle, same, same, "--json")
    first, second = values_of(capsys)
    assert first == second
    run(bundle, same, same, "--json", "--sequence")
    first, second = values_of(capsys)
    assert first != second


def test_a_sequence_that_a_shell_put_out_of_order_is_noted(
    run: Run, make_bundle: Make, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, as_a_shell_sorts = make_bundle(carried=True), sorted(frames.glob("f*.png"))
    assert run(bundle, *as_a_shell_sorts, "--sequence") == 0
    assert "note: the frames are taken as given, frame10.png before frame2.png" in capsys.readouterr().err
    for arguments in ([*as_a_shell_sorts], [frames, "--sequence"], [frames / "frame2.png", "--sequence"]):
        assert run(bundle, *arguments) == 0
        assert "note:" not in capsys.readouterr().err


def test_a_sequence_of_a_first_frame_policy_holds_its_action(
    run: Run, make_bundle: Make, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make_bundle(frame="first"), frames, "--sequence") == 0
    lines = capsys.readouterr().out.splitlines()
    assert not lines[2].endswith("(held)")
    assert lines[3].endswith("(held)")


def test_an_unknown_instruction_ends_with_2_and_the_list(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames, "--instruction", "fly") == 2
    assert "it holds 3: '컵까지 가세요'" in capsys.readouterr().err


def test_a_folder_that_is_no_bundle_ends_with_2(
    run: Run, tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(frames, frames) == 2
    assert "is not a bundle: it has no manifest.json" in capsys.readouterr().err


def test_an_image_in_the_bundle_s_place_is_named_before_the_bundle_is_looked_for_images(
    run: Run, make_bundle: Make, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next(iter(frames.iterdir()))
    assert run(image, make_bundle()) == 2
    assert f"{image.name} is not a folder" in capsys.readouterr().err


def test_a_policy_that_gives_nan_ends_with_1(
    run: Run, make_bundle: Make, tmp_path: Path, dark_frame: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(dark_frame).save(tmp_path / "dark.png")
    assert run(make_bundle(nan_when_dark=True), tmp_path / "dark.png") == 1
    assert "error: the engine returned an action that is not finite" in capsys.readouterr().err


def test_options_reach_the_engine(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames, "--threads", 1, "--backend", "onnxruntime", "--verify", "size") == 0
    assert "(1 thread)" in capsys.readouterr().out


def test_the_gpu_and_its_memory_are_options_of_tensorrt(
    run: Run, pristine_bundle: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def load(folder: Path, backend: str, verify: str, **options: object) -> None:
        seen.update(options, backend=backend)
        raise EngineError("no GPU.")

    monkeypatch.setattr("vla_edge.runtime.policy.Policy.load", load)
    assert run(pristine_bundle, frames, "--backend", "tensorrt", "--device", 1, "--memory", "pycuda") == 1
    assert seen == {"backend": "tensorrt", "device_index": 1, "memory": "pycuda"}
    assert set(seen) <= {field.name for field in dataclasses.fields(TensorRtOptions)}


def test_device_memory_is_no_option_of_onnxruntime(
    run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_bundle, frames, "--memory", "pycuda") == 2
    assert "memory is no option of this engine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [(), ("bundle",), ("bundle", "missing.png"), ("bundle", "--threads", "0")]
)
def test_wrong_use_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2


def test_help_has_examples_and_speaks_of_video(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert "vla-run engines/hybrid-fp16 photo.jpg" in text
    assert "vla-run engines/pure-fp16 drive.mp4" in text
    assert command.name


def test_what_is_called_a_video_and_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drive.MP4").write_text("no video")
    with pytest.raises(InputError, match=r"drive.MP4 holds no recording"):
        list_images([tmp_path / "drive.MP4"])


class TestRecordings:
    def expected(
        self, bundle: Path, frames: Iterable[np.ndarray], instruction: str | None
    ) -> list[list[float]]:
        """One after another, as on a robot."""
        with Policy.load(bundle) as policy:
            return [list(policy.act(frame, instruction).values) for frame in frames]

    def shown(self, text: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in text.splitlines()]

    def test_each_episode_is_a_sequence_with_its_own_instruction(
        self, run: Run, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = make_bundle(carried=True)
        folder = tmp_path / "recordings"
        folder.mkdir()
        for number, name in enumerate(("1box_vert_left", "other")):
            write_hdf5(folder / f"{name}.h5", number)
        assert run(bundle, folder, "--json") == 0
        lines = self.shown(capsys.readouterr().out)
        assert [line["image"] for line in lines[:2]] == [
            str(folder / f"1box_vert_left.h5#{at}") for at in (0, 1)
        ]
        found = [list(line["action"].values()) for line in lines]
        assert found[:FRAMES] == self.expected(bundle, frames_of(0), LEFT)
        assert found[FRAMES:] == self.expected(bundle, frames_of(1), None)
        assert run(bundle, folder) == 0
        out = capsys.readouterr().out
        assert out.count("following ") == 2
        assert run(bundle, folder, "--instruction", "go to the cup", "--json") == 0
        assert {line["instruction"] for line in self.shown(capsys.readouterr().out)} == {"go to the cup"}

    def test_a_video_needs_no_splitting(
        self, run: Run, pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(pristine_bundle, write_video(tmp_path / "drive.mp4", even_frames())) == 0
        assert len(rows_of(capsys.readouterr().out)) == 12

    def test_a_video_becomes_a_table_in_a_file(
        self, run: Run, pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        video, table, lines = (
            write_video(tmp_path / "drive.mp4", even_frames()),
            *(tmp_path / name for name in ("run.csv", "run.jsonl")),
        )
        assert run(pristine_bundle, video, "-o", table) == 0
        assert run(pristine_bundle, video, "-o", lines) == 0
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["image"] for row in rows] == [f"{video}#{at}" for at in range(12)]
        (episode,) = open_episodes(video)
        wanted = self.expected(pristine_bundle, episode.frames(), None)
        assert [[float(row["linear_x_mps"]), float(row["linear_y_mps"])] for row in rows] == wanted
        assert [list(line["action"].values()) for line in self.shown(lines.read_text())] == wanted

    @pytest.mark.parametrize("name", ["drive.csv", "frames/actions.csv"])
    def test_results_never_stand_where_actions_are_looked_for(
        self,
        run: Run,
        pristine_bundle: Path,
        frames: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        name: str,
    ) -> None:
        driven = tmp_path / name
        driven.write_text("linear_x [m/s],linear_y [m/s]\n")
        video = write_video(tmp_path / "drive.mp4", even_frames())
        assert run(pristine_bundle, video, "-o", driven) == 2
        assert "is where the actions of the recording" in capsys.readouterr().err
        assert driven.read_text() == "linear_x [m/s],linear_y [m/s]\n"

    def test_what_was_driven_is_not_asked_for(
        self, run: Run, pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = [Said("/front", 0.1 * at, raw_image(frames_of()[at])) for at in range(3)]
        said += [Said(topic, 0.1, twist(1.0, 0.0, 0.0)) for topic in ("/cmd_vel", "/cmd_vel_nav")]
        write_bag(tmp_path / "bag", said)
        assert run(pristine_bundle, tmp_path / "bag") == 0
        (tmp_path / "drive.csv").write_text("not actions")
        assert run(pristine_bundle, write_video(tmp_path / "drive.mp4", even_frames())) == 0

    def test_a_data_set_and_an_image_in_one_go(
        self, run: Run, pristine_bundle: Path, frames: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept = Path(__file__).parents[1] / "episodes/kept/lerobot-3-image"
        asked = (pristine_bundle, kept, frames / "frame1.png", "--instruction", "go to the cup", "--json")
        assert run(*asked) == 0
        names = [line["image"] for line in self.shown(capsys.readouterr().out)]
        assert names[0] == f"{kept}/episode_0#0"
        assert names[-1].endswith("frame1.png")
        assert len(names) == 8 + 9 + 10 + 1

    def test_one_camera_of_two_is_taken_by_its_name(
        self, run: Run, pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = [Said(f"/{side}", 0.1 * at, raw_image(frames_of(at)[0])) for at, side in enumerate(SIDES)]
        write_bag(tmp_path / "bag", said)
        assert run(pristine_bundle, tmp_path / "bag", "--json") == 1
        assert "several topics: /left, /right" in capsys.readouterr().err
        assert run(pristine_bundle, tmp_path / "bag", "--view", "/right", "--json") == 0
        (line,) = self.shown(capsys.readouterr().out)
        assert list(line["action"].values()) == self.expected(pristine_bundle, frames_of(1)[:1], None)[0]

    def test_a_broken_episode_ends_itself_alone(
        self, run: Run, pristine_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for number in range(3):
            write_hdf5(tmp_path / f"{number}.h5", number)
        (tmp_path / "1.h5").write_bytes((tmp_path / "1.h5").read_bytes()[:9000])
        assert run(pristine_bundle, tmp_path, "--json") == 1
        shown = capsys.readouterr()
        lines = self.shown(shown.out)
        assert sum("error" in line for line in lines) == 1
        assert len(lines) == 2 * FRAMES + 1
        assert "1.h5 cannot be read as HDF5" in shown.err
        assert run(pristine_bundle, tmp_path, "--strict") == 2

    def test_a_batch_takes_none(
        self, run: Run, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(make_bundle(batch=2), write_hdf5(tmp_path / "a.h5")) == 2
        assert "a recording needs one at a time" in capsys.readouterr().err


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        list_images([tmp_path])


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_bundle_with_a_camera_acts_on_files_of_its_size_and_names_the_others(
    run: Run,
    make_bundle: Make,
    frames: Path,
    frame: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    channels: str,
    batch: int,
) -> None:
    Image.fromarray(frame[:40]).save(frames / "frame3.png")
    bundle = make_bundle(camera=(48, 64, channels), batch=batch)
    assert run(bundle, frames, "--json") == 1
    shown = capsys.readouterr()
    lines = {Path(line["image"]).name: line for line in map(json.loads, shown.out.splitlines())}
    assert "frame3.png is 64 pixels wide and 40 high" in shown.err
    assert "vla-export --camera 40x64" in shown.err
    with Policy.load(make_bundle(name="one", camera=(48, 64, "rgb"))) as policy:
        wanted = policy.act(np.roll(frame, 5, axis=1))
    assert list(lines["frame1.png"]["action"].values()) == pytest.approx(list(wanted.values), abs=1e-5)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_files_with_blue_for_red_are_turned_for_a_camera_too(
    run: Run,
    make_bundle: Make,
    frame: np.ndarray,
    tmp_path: Path,
    channels: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(frame).save(tmp_path / "right.png")
    Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1])).save(tmp_path / "swapped.png")
    bundle = make_bundle(camera=(48, 64, channels))
    actions = []
    for arguments in ((tmp_path / "right.png",), (tmp_path / "swapped.png", "--bgr")):
        assert run(bundle, *arguments, "--json") == 0
        actions.append(json.loads(capsys.readouterr().out)["action"])
    assert actions[0] == actions[1]
    assert run(bundle, tmp_path / "swapped.png", "--bgr", "--json") == 0


def test_a_recording_of_another_size_is_named(
    run: Run, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "drive.mp4", even_frames(3))
    assert run(make_bundle(camera=(48, 60, "bgr")), video) == 1
    assert "drive.mp4: the frame is 64 pixels wide and 48 high" in capsys.readouterr().err
    assert run(make_bundle(name="fits", camera=(48, 64, "bgr")), video) == 0
