"""Bundles of a batch take folders: every frame is an episode of its own, as if it were alone."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime import Bundle, Policy, open_session
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.engines.session import Session
from vla_edge.runtime.errors import (
    EngineError,
    ImageError,
    InputError,
    InstructionError,
    NonFiniteActionError,
)
from vla_edge.runtime.run.cli import main

Make = Callable[..., Path]
BRIGHT = np.full((48, 64, 3), 220, np.uint8)


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


def test_a_batch_that_failed_goes_on_afresh(make_bundle: Make, dark_frame: np.ndarray) -> None:
    with BatchPolicy.load(make_bundle(batch=2, nan_when_dark=True)) as batch:
        wanted = batch.act([BRIGHT, BRIGHT])[0].values
        with pytest.raises(NonFiniteActionError, match=r"frame 0 of the batch: .* not finite") as raised:
            batch.act([dark_frame, dark_frame])
        assert "starts afresh" in raised.value.hint
        assert batch.act([BRIGHT, BRIGHT])[0].values == wanted


def test_a_state_that_is_not_finite_is_an_error_of_its_frame(
    make_bundle: Make, frames: list[np.ndarray]
) -> None:
    bundle = Bundle.open(make_bundle(batch=4, carried=True))
    session = open_session(bundle)
    with BatchPolicy(bundle, WithState(session, "h_out", 2)) as batch:
        assert len(batch.act(frames[:2])) == 2  # the place of its NaN is left over
        with pytest.raises(NonFiniteActionError, match=r"frame 2 of the batch: .* a state"):
            batch.act(frames[:4])


class WithState:
    """A session whose engine has spoilt the state of one place."""

    def __init__(self, session: Session, name: str, place: int) -> None:
        self.inputs, self.outputs, self.identity = session.inputs, session.outputs, session.identity
        self._session, self._name, self._place = session, name, place

    def run(self, host_work: Any = lambda: None) -> None:
        self._session.run(host_work)
        self.outputs[self._name][:, self._place] = np.inf

    def close(self) -> None:
        self._session.close()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ("frame.png", "a str is no sequence of frames"),
        (Path("frame.png"), "is no sequence of frames"),
        (iter([BRIGHT]), "a list_iterator is no sequence of frames"),
        (BRIGHT, r"an array of shape \[48, 64, 3\] is no sequence"),
        (None, "a NoneType is no sequence"),
    ],
)
def test_what_is_no_sequence_of_frames_is_refused(make_bundle: Make, frames: Any, words: str) -> None:
    with BatchPolicy.load(make_bundle(batch=64)) as batch, pytest.raises(InputError, match=words):
        batch.act(frames)


def test_an_array_of_frames_is_a_batch(make_bundle: Make, frames: list[np.ndarray]) -> None:
    with BatchPolicy.load(make_bundle(batch=4)) as batch:
        wanted = [action.values for action in batch.act(frames[:3])]
        assert [action.values for action in batch.act(np.stack(frames[:3]))] == wanted
        masked = np.ma.masked_array(np.stack(frames[:3]), mask=True)
        assert [str(error.problem) for error in batch.act(masked)] == ["the frame is a masked array."] * 3


def test_two_threads_at_once_are_refused_instead_of_mixing_frames(make_bundle: Make) -> None:
    large = [
        np.full((1000, 1500, 3), grey, np.uint8) for grey in (40, 200)
    ]  # others run while Pillow resizes
    batch = BatchPolicy.load(make_bundle(batch=2))
    wanted = [batch.act([each])[0].values for each in large]
    found: list[list[object]] = [[], []]

    def attempt(mine: int) -> object:
        try:
            return batch.act([large[mine]])[0].values
        except EngineError as error:
            return error.problem

    def work(mine: int) -> None:
        found[mine] = [attempt(mine) for _ in range(100)]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy = "this policy is in use by another thread."
    assert busy in {*found[0], *found[1]}
    for mine in (0, 1):
        assert set(found[mine]) <= {busy, wanted[mine]}


@pytest.mark.parametrize("use", ["act", "warmup", "close"])
def test_a_call_inside_a_call_is_refused_whatever_it_is(
    make_bundle: Make, frames: list[np.ndarray], use: str
) -> None:
    batch = BatchPolicy.load(make_bundle(batch=2))
    calls = {"act": lambda: batch.act(frames[:1]), "warmup": batch.warmup, "close": batch.close}
    refused = []

    class Frame(os.PathLike[str]):
        def __fspath__(self) -> str:
            with pytest.raises(EngineError, match="in use") as raised:
                calls[use]()
            refused.append(raised.value)
            return "gone.png"

    assert isinstance(batch.act([Frame()])[0], ImageError)
    assert refused
    assert len(batch.act(frames[:2])) == 2


def test_a_closed_batch_refuses_everything_but_closing(make_bundle: Make, frames: list[np.ndarray]) -> None:
    with BatchPolicy.load(make_bundle(batch=2)) as batch:
        batch.act(frames[:2])
    batch.close()
    for use in (lambda: batch.act(frames[:2]), batch.warmup):
        with pytest.raises(EngineError, match="this policy is closed") as raised:
            use()
        assert "BatchPolicy.load" in raised.value.hint


class Interrupted(BaseException):
    """As a signal's handler raises it."""


def interrupted_at(batch: BatchPolicy, frames: list[np.ndarray], target: int) -> bool:
    """Whether an act was interrupted before that line of batch.py, counted as they are run."""
    seen = 0

    def trace(code: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        if not code.f_code.co_filename.endswith("runtime/batch.py"):
            return None
        seen += event == "line"
        if seen == target:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        batch.act(frames, "go to the cup")
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_act_interrupted_at_any_line_leaves_nothing_to_the_next(
    make_bundle: Make, frames: list[np.ndarray]
) -> None:
    batch = BatchPolicy.load(make_bundle(batch=4, carried=True))
    wanted = [action.values for action in batch.act(frames[:2])]
    moments = 0
    while interrupted_at(batch, frames[2:6], moments + 1):
        moments += 1
        assert [action.values for action in batch.act(frames[:2])] == wanted
    assert moments > 20


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
