"""The command `vla-replay`."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_files import CMD_VEL, Said, raw_image, twist, write_bag
from episode_files import FRAMES, actions_of, even_frames, frames_of, write_hdf5, write_video

from vla_edge.export.replay.cli import main
from vla_edge.runtime import Policy
from vla_edge.runtime.episodes.scenarios import LEFT

Run = Callable[..., int]
Make = Callable[..., Path]
NAMES = ("linear_x", "linear_y")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vla-replay", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(3):
        write_hdf5(folder / f"{number}_1box_vert_left.h5", number)
    return folder


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_holds_every_step_and_the_summary_last(
    run: Run, make_bundle: Make, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(scale=(2.0, 2.0))
    assert run(bundle, recordings, "--json") == 0
    *steps, last = lines_of(capsys.readouterr().out)
    assert [(line["episode"], line["step"]) for line in steps] == [
        (f"{number}_1box_vert_left.h5", step) for number in range(3) for step in range(FRAMES)
    ]
    with Policy.load(bundle) as policy:
        for number in range(3):
            policy.reset()
            mine = steps[number * FRAMES : (number + 1) * FRAMES]
            for line, frame, driven in zip(mine, frames_of(number), actions_of(number), strict=True):
                action = policy.act(frame, LEFT)
                assert line["instruction"] == LEFT
                assert tuple(line["predicted"].values()) == action.values
                assert list(line["recorded"].values()) == [float(driven[0]), float(driven[1])]
                for at, name in enumerate(NAMES):
                    assert line["error"][name] == pytest.approx(action.values[at] - float(driven[at]))
                    wrong = abs(action.raw[at] - min(1, max(-1, float(driven[at]) / 2)))
                    assert line["normalised_error"][name] == pytest.approx(wrong)
    summary = last["summary"]
    assert (summary["episodes"], summary["steps"], summary["val_mae"]) == (3, 3 * FRAMES, 0.25)
    for name in NAMES:
        mean = np.mean([abs(line["error"][name]) for line in steps])
        assert summary["errors"]["mae"][name] == pytest.approx(mean)
        assert summary["errors"]["flips"][name] == sum(line["flips"][name] for line in steps)
    assert last["broken"] == {}


def test_the_answer_stands_first_in_words_and_a_row_an_episode_last(
    run: Run, make_bundle: Make, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make_bundle(), recordings) == 0
    out = capsys.readouterr().out
    first, second, *_ = out.splitlines()
    means, largest = r"linear_x \d\.\d{3} m/s, linear_y \d\.\d{3} m/s", r"\d\.\d{3} m/s"
    assert re.fullmatch(rf"Off what was driven by {means} on average, {largest} at most\.", first)
    assert second == "3 episodes, 18 steps."
    rows = out.splitlines()[-3:]
    assert [line.split()[-1] for line in rows] == [f"{at}_1box_vert_left.h5" for at in range(3)]
    assert "the checkpoint tells val_mae 0.2500" in out
    assert "these figures say nothing of a trained policy" in out


@pytest.mark.parametrize("name", ["steps.csv", "steps.jsonl"])
def test_a_file_has_a_line_a_step(
    run: Run, make_bundle: Make, recordings: Path, tmp_path: Path, name: str
) -> None:
    assert run(make_bundle(), recordings, "-o", tmp_path / name) == 0
    with (tmp_path / name).open(encoding="utf-8") as file:
        if name.endswith(".csv"):
            rows = list(csv.DictReader(file))
            assert float(rows[1]["error_linear_y_mps"]) == pytest.approx(
                float(rows[1]["predicted_linear_y_mps"]) - float(rows[1]["recorded_linear_y_mps"])
            )
        else:
            rows = [json.loads(line) for line in file]
    assert len(rows) == 3 * FRAMES


def test_a_table_in_parquet_has_the_same_rows(
    run: Run, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    bundle, half = make_bundle(), make_bundle(name="half", precision="fp16")
    for name in ("steps.parquet", "steps.jsonl"):
        assert run(bundle, recordings, "--against", half, "-o", tmp_path / name) == 0
    rows = parquet.read_table(tmp_path / "steps.parquet").to_pylist()
    lines = lines_of((tmp_path / "steps.jsonl").read_text(encoding="utf-8"))
    assert len(rows) == len(lines) == 3 * FRAMES
    for row, line in zip(rows, lines, strict=True):
        for key in ("episode", "step", "time_s", "instruction", "angle_deg", "clamped", "held"):
            assert row[key] == line[key]
        for what in ("recorded", "predicted", "error", "against"):
            assert [row[f"{what}_{name}_mps"] for name in NAMES] == list(line[what].values())
        for what in ("normalised_error", "flips"):
            assert [row[f"{what}_{name}"] for name in NAMES] == list(line[what].values())


def test_a_table_that_is_ended_early_can_be_read(
    run: Run, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    (recordings / "2_1box_vert_left.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert run(make_bundle(), recordings, "-o", tmp_path / "steps.parquet") == 2
    kept = parquet.read_table(tmp_path / "steps.parquet.partial")
    assert kept.num_rows == 2 * FRAMES


def test_another_bundle_is_compared_on_the_same_frames(
    run: Run, make_bundle: Make, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single, half = make_bundle(), make_bundle(name="half", precision="fp16")
    assert run(half, recordings, "--against", single, "--json") == 0
    *steps, last = lines_of(capsys.readouterr().out)
    found = last["summary"]["difference"]
    each = [max(abs(line["predicted"][name] - line["against"][name]) for name in NAMES) for line in steps]
    assert found["max"] == pytest.approx(max(each))
    assert 0 < found["max"] < 0.02
    assert found["mean"] == pytest.approx(np.mean(each))
    early = [value for value, line in zip(each, steps, strict=True) if line["step"] < 2]
    assert found["early"] == pytest.approx(np.mean(early))
    assert found["flips"] == 0
    by_step = [
        [value for value, line in zip(each, steps, strict=True) if line["step"] == at] for at in range(FRAMES)
    ]
    assert found["drift"]["steps_a_point"] == 1
    np.testing.assert_allclose(found["drift"]["mean"], [np.mean(some) for some in by_step])
    np.testing.assert_allclose(found["drift"]["max"], [max(some) for some in by_step])
    assert run(half, recordings, "--against", half, "--json") == 0
    assert lines_of(capsys.readouterr().out)[-1]["summary"]["difference"]["max"] == 0


def test_limits_decide_the_exit_code(
    run: Run, make_bundle: Make, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single, half = make_bundle(), make_bundle(name="half", precision="fp16")
    assert run(single, recordings, "--max-mae", "9") == 0
    assert run(single, recordings, "--max-mae", "0.01") == 1
    assert "past --max-mae 0.01" in capsys.readouterr().err
    assert run(half, recordings, "--against", single, "--max-difference", "0.1") == 0
    assert run(half, recordings, "--against", single, "--max-difference", "0") == 1
    assert "past --max-difference 0." in capsys.readouterr().err


class TestABrokenEpisodeInTheMiddle:
    @pytest.fixture
    def damaged(self, recordings: Path) -> Path:
        """Its third frame is."""
        import h5py

        path = write_hdf5(recordings / "1_1box_vert_left.h5", chunks=(1, 24, 32, 3), compression=1)
        with h5py.File(path, "r+") as file:
            file["images"].id.write_direct_chunk((3, 0, 0, 0), b"no zlib stream")
        return recordings

    def test_ends_the_replay_with_its_name(
        self, run: Run, make_bundle: Make, damaged: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(make_bundle(), damaged) == 2
        shown = capsys.readouterr()
        assert "1_1box_vert_left.h5 cannot be read as HDF5" in shown.err
        # what was done before it
        assert [line.split()[-1] for line in shown.out.splitlines()][2:] == ["0_1box_vert_left.h5"]

    def test_is_passed_over_whole_and_the_others_are_as_without_it(
        self, run: Run, make_bundle: Make, damaged: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bundle = make_bundle()
        assert run(bundle, damaged, "--skip-broken", "--max-mae", "0") == 1
        shown = capsys.readouterr()
        assert "past --max-mae" in shown.err
        assert "2 episodes, 12 steps; 1 broken episode left out." in shown.out
        assert run(bundle, damaged, "--skip-broken", "--json") == 1
        shown = capsys.readouterr()
        assert "1_1box_vert_left.h5 cannot be read as HDF5" in shown.err
        *steps, last = lines_of(shown.out)
        assert list(last["broken"]) == ["1_1box_vert_left.h5"]
        (damaged / "1_1box_vert_left.h5").unlink()
        assert run(bundle, damaged, "--json") == 0
        *sound, other = lines_of(capsys.readouterr().out)
        for line in (*steps, *sound):
            del line["latency_ms"]
        assert steps == sound
        assert last["summary"]["trainer"] == other["summary"]["trainer"]

    def test_that_is_the_only_one_is_an_error(
        self, run: Run, make_bundle: Make, damaged: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(make_bundle(), damaged / "1_1box_vert_left.h5", "--skip-broken") == 2
        assert re.search(r"no episode of .* can be read: .* cannot be read as HDF5", capsys.readouterr().err)


def test_a_page_that_does_not_fit_the_disk_takes_nothing_from_the_answer(
    run: Run,
    make_bundle: Make,
    recordings: Path,
    small_disk: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = small_disk(8)
    assert run(make_bundle(), recordings, "--page", place / "replay.html") == 1
    shown = capsys.readouterr()
    assert "replay.html is full" in shown.err
    assert [line.split()[-1] for line in shown.out.splitlines()][2:] == [
        path.name for path in sorted(recordings.iterdir())
    ]
    assert not list(place.iterdir())


def test_a_video_without_actions_is_replayed_too(
    run: Run, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, bundle = write_video(tmp_path / "drive.mp4", even_frames()), make_bundle()
    assert run(bundle, video) == 0
    out = capsys.readouterr().out
    assert "No actions were recorded" in out
    assert "12 steps" in out
    assert run(bundle, video, "--max-mae", "1") == 2
    assert "--max-mae judges nothing" in capsys.readouterr().err


def test_a_data_set_that_lerobot_wrote_is_replayed(
    run: Run, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Path(__file__).parents[2] / "runtime/episodes/kept/lerobot-3-video"
    assert run(make_bundle(), kept, "--instruction", "go to the cup", "--json") == 0
    *steps, last = lines_of(capsys.readouterr().out)
    assert [line["episode"] for line in steps] == ["episode_0"] * 8 + ["episode_1"] * 9 + ["episode_2"] * 10
    assert list(steps[-1]["recorded"].values()) == pytest.approx([2.0, 0.9])
    assert last["summary"]["trainer"]["every_frame"] > 0


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_that_rosbags_wrote_is_replayed(
    run: Run, make_bundle: Make, tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [Said("/camera", 0.1 * at, raw_image(frames_of()[at])) for at in range(FRAMES)]
    said += [Said(CMD_VEL, 0.1 * at + 0.01, twist(0.5, -0.25, 0)) for at in range(FRAMES)]
    write_bag(tmp_path / "bag", sorted(said, key=lambda each: each.log_s), storage)
    assert run(make_bundle(), tmp_path / "bag", "--json") == 0
    *steps, _ = lines_of(capsys.readouterr().out)
    assert [list(line["recorded"].values()) for line in steps] == FRAMES * [[0.5, -0.25]]


WRONG = {
    "no recording": (("bundle", "bundle"), "itself holds no recording|holds no recording"),
    "a limit without the other bundle": (
        ("bundle", "recordings", "--max-difference", "1"),
        "--max-difference needs --against",
    ),
    "torch without its checkpoint": (("bundle", "recordings", "--against", "torch"), "needs --checkpoint"),
    "a checkpoint without torch": (
        ("bundle", "recordings", "--against", "bundle", "--checkpoint", "a.pth"),
        "--checkpoint is for --against torch",
    ),
    "a page of another kind": (("bundle", "recordings", "--page", "page.pdf"), "is of no known kind"),
    "an instruction that is not held": (
        ("bundle", "recordings", "--instruction", "fly"),
        "does not hold the instruction 'fly'",
    ),
    "a file of what was driven": (
        ("bundle", "recordings", "-o", "recordings/drive.csv"),
        "drive.csv is where the actions of the recording .*drive.mp4 are looked for",
    ),
    "another kind of file": (("bundle", "recordings", "-o", "steps.xlsx"), "is of no known kind"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_told_in_words(
    run: Run,
    make_bundle: Make,
    recordings: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    places = {"bundle": make_bundle(), "recordings": recordings}
    (recordings / "drive.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    monkeypatch.chdir(recordings.parent)
    assert run(*(places.get(part, part) for part in arguments)) == 2
    assert re.search(words, capsys.readouterr().err)


def test_policies_of_other_actions_are_not_compared(
    run: Run, make_bundle: Make, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = make_bundle(), make_bundle(name="other")
    path = theirs / "manifest.json"
    path.write_text(path.read_text().replace('"linear_y"', '"angular_z"'))
    assert run(mine, recordings, "--against", theirs) == 2
    assert "the two policies give other actions" in capsys.readouterr().err
