"""Bundles of a batch take folders: every frame is an episode of its own, as if it were alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime import Policy
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.cli import main
from vla_edge.runtime.errors import ImageError, InputError, InstructionError, NonFiniteActionError

Make = Callable[..., Path]


@pytest.fixture
def frames(frame: np.ndarray) -> list[np.ndarray]:
    return [np.roll(frame, 7 * at, axis=1) // (1 + at) for at in range(6)]


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_a_batch_gives_the_actions_of_single_frames(
    make_bundle: Make, frames: list[np.ndarray], carried: bool, indexed: bool
) -> None:
    kind = {"carried": carried, "indexed": indexed}
    with Policy.load(make_bundle(name="one", **kind)) as policy:
        wanted = []
        for frame in frames:
            policy.reset()
            wanted.append(policy.act(frame, "go to the cup").values)
    with BatchPolicy.load(make_bundle(name="four", batch=4, **kind)) as batch:
        batch.warmup()
        found = [*batch.act(frames[:4], "go to the cup"), *batch.act(frames[4:], "go to the cup")]
    np.testing.assert_allclose([action.values for action in found], wanted, atol=1e-6)
    assert {action.instruction for action in found} == {"go to the cup"}


def test_a_frame_that_is_none_leaves_the_others_as_they_are(
    make_bundle: Make, frames: list[np.ndarray]
) -> None:
    with BatchPolicy.load(make_bundle(batch=4)) as batch:
        wanted = batch.act(frames[:2])
        first, refused, second = batch.act([frames[0], frames[1].astype(np.float32), frames[1]])
    assert isinstance(refused, ImageError)
    assert (first.values, second.values) == (wanted[0].values, wanted[1].values)


def test_wrong_use_is_refused(make_bundle: Make, frames: list[np.ndarray]) -> None:
    with BatchPolicy.load(make_bundle(batch=4)) as batch:
        with pytest.raises(InputError, match="5 frames do not fit a batch of 4"):
            batch.act(frames[:5])
        with pytest.raises(InputError, match="0 frames do not fit"):
            batch.act([])
        with pytest.raises(InstructionError, match="does not hold the instruction"):
            batch.act(frames[:1], "fly")
    with pytest.raises(InputError, match="channels 'gbr' are not known"):
        BatchPolicy.load(make_bundle(name="b", batch=4), channels="gbr")  # type: ignore[arg-type]


def test_nan_in_a_batch_is_an_error(
    make_bundle: Make, frames: list[np.ndarray], dark_frame: np.ndarray
) -> None:
    with (
        BatchPolicy.load(make_bundle(batch=2, nan_when_dark=True)) as batch,
        pytest.raises(NonFiniteActionError),
    ):
        batch.act([dark_frame, dark_frame])


@pytest.fixture
def folder(tmp_path: Path, frames: list[np.ndarray]) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for at, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{at + 7}.png")
    (folder / "frame8.png").write_bytes(b"junk")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vla-run", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_folder_through_a_batch_is_the_folder_one_by_one(
    make_bundle: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for batch in (1, 4):
        assert (
            run(monkeypatch, make_bundle(name=f"b{batch}", batch=batch, carried=True), folder, "--json") == 1
        )
        shown.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert [Path(row["image"]).stem for row in shown[1]] == [f"frame{at}" for at in range(7, 13)]
    for one, four in zip(*shown, strict=True):
        assert one.get("error") == four.get("error")
        np.testing.assert_allclose(one.get("raw", 0), four.get("raw", 0), atol=1e-6)


def test_a_sequence_needs_one_frame_at_a_time(
    make_bundle: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, make_bundle(name="four", batch=4), folder, "--sequence") == 2
    assert (
        "takes 4 frames at a time, each an episode of its own: --sequence needs one"
        in capsys.readouterr().err
    )


def test_strict_ends_a_batch_too(
    make_bundle: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, make_bundle(name="four", batch=4), folder, "--strict") == 2
    assert "frame8.png is not an image" in capsys.readouterr().err


@pytest.mark.parametrize("batch", [1, 4])
def test_files_whose_channels_are_swapped_give_the_actions_of_the_right_ones(
    make_bundle: Make,
    tmp_path: Path,
    frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    batch: int,
) -> None:
    bundle = make_bundle(name="b", batch=batch)
    Image.fromarray(frames[0]).save(tmp_path / "right.png")
    Image.fromarray(np.ascontiguousarray(frames[0][..., ::-1])).save(tmp_path / "swapped.png")
    raw = []
    for arguments in (["right.png"], ["swapped.png", "--bgr"], ["swapped.png"]):
        assert run(monkeypatch, bundle, tmp_path / arguments[0], "--json", *arguments[1:]) == 0
        raw.append(json.loads(capsys.readouterr().out)["raw"])
    assert raw[0] == raw[1] != raw[2]


def test_a_policy_for_opencv_gives_the_action_of_the_rgb_frame(
    pristine_bundle: Path, frames: list[np.ndarray]
) -> None:
    bgr = frames[0][..., ::-1]
    with Policy.load(pristine_bundle) as rgb, Policy.load(pristine_bundle, channels="bgr") as opencv:
        assert opencv.act(bgr).raw == rgb.act(frames[0]).raw != rgb.act(bgr).raw
        assert opencv.act(Image.fromarray(frames[0])).raw == rgb.act(frames[0]).raw
    with pytest.raises(InputError, match="channels 'BGR' are not known"):
        Policy.load(pristine_bundle, channels="BGR")  # type: ignore[arg-type]
