"""A bundle with a camera takes that camera's frames as they are, and nothing else for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vla_edge.runtime import Controller, ControllerOptions, Policy
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.bundle.manifest import Camera
from vla_edge.runtime.camera_frame import FrameWriter
from vla_edge.runtime.errors import ImageError, InputError

Make = Callable[..., Path]
HEIGHT, WIDTH = 48, 64  # of the fixture `frame`
CAMERA = (HEIGHT, WIDTH, "rgb")
OPENCV = (HEIGHT, WIDTH, "bgr")


@pytest.fixture
def policy(make_bundle: Make) -> Policy:
    return Policy.load(make_bundle(camera=CAMERA))


@pytest.fixture
def plain(pristine_bundle: Path) -> Policy:
    return Policy.load(pristine_bundle)


def test_the_frame_goes_into_the_engine_byte_for_byte(policy: Policy, frame: np.ndarray) -> None:
    policy.act(frame)
    assert policy.frame.dtype == np.uint8
    assert np.array_equal(policy.frame, frame[None])


@pytest.mark.parametrize("camera", [CAMERA, OPENCV])
def test_the_action_is_that_of_the_bundle_without_a_camera(
    plain: Policy, make_bundle: Make, frame: np.ndarray, camera: tuple[int, int, str]
) -> None:
    with Policy.load(make_bundle(name="seeing", camera=camera)) as policy:
        taken = policy.act(policy.in_order(frame))
    # Pillow rounds twice on the way, which this test's graph does not.
    assert taken.raw == pytest.approx(plain.act(frame).raw, abs=2e-3)


def test_frames_of_any_strides_are_taken(policy: Policy, frame: np.ndarray) -> None:
    flipped = frame[::-1, :, ::-1]
    assert policy.act(flipped).raw == policy.act(flipped.copy()).raw
    flipped.flags.writeable = False
    assert policy.act(flipped).raw == policy.act(flipped.copy()).raw


@pytest.mark.parametrize("camera", [CAMERA, OPENCV])
def test_an_array_a_pillow_image_and_a_file_are_the_same_frame(
    make_bundle: Make, frame: np.ndarray, tmp_path: Path, camera: tuple[int, int, str]
) -> None:
    Image.fromarray(frame).save(tmp_path / "frame.png")
    with Policy.load(make_bundle(camera=camera)) as policy:
        said = policy.act(policy.in_order(frame)).raw
        assert policy.act(Image.fromarray(frame)).raw == said
        assert policy.act(tmp_path / "frame.png").raw == said
        assert policy.act(str(tmp_path / "frame.png")).raw == said


def test_a_driver_writes_its_frames_into_the_engine_itself(
    policy: Policy, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = policy.act(frame).raw
    policy.frame.fill(0)
    policy.frame[0] = frame

    def refuse(*_: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(np, "copyto", refuse)
    assert policy.act(policy.frame).raw == wanted
    assert policy.act(policy.frame[0]).raw == wanted
    with pytest.raises(AssertionError, match="copied"):
        policy.act(frame)


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[::-1, ::-1, ::-1]])
def test_a_flipped_view_of_the_engines_own_input_is_copied(
    policy: Policy, frame: np.ndarray, view: Any
) -> None:
    policy.frame[0] = frame
    policy.act(policy.frame[0][view])
    assert np.array_equal(policy.frame[0], frame[view])


def test_a_mask_over_the_engines_own_input_is_refused(policy: Policy) -> None:
    with pytest.raises(ImageError, match="masked array"):
        policy.act(np.ma.masked_array(policy.frame[0]))


@pytest.mark.parametrize("shape", [(48, 63, 3), (64, 48, 3), (8, 8, 3), (480, 640, 3)])
def test_another_size_is_refused_and_both_are_named(policy: Policy, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError) as raised:
        policy.act(np.full(shape, 9, np.uint8))
    assert f"the frame is {shape[1]} pixels wide and {shape[0]} high" in raised.value.problem
    assert "takes frames 64 wide and 48 high alone" in raised.value.problem
    size = f"h{shape[0]}xw{shape[1]}" if shape[0] > shape[1] else f"{shape[0]}x{shape[1]}"
    assert f"vla-export --camera {size}" in raised.value.hint


def test_a_file_of_another_size_is_named(policy: Policy, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match=r"small\.png is 40 pixels wide and 30 high"):
        policy.act(tmp_path / "small.png")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((48, 64, 3), np.float32), "instead of uint8"),
        (np.zeros((48, 64), np.uint8), "instead of \\[height, width, 3\\]"),
        (np.zeros((48, 64, 4), np.uint8), "instead of \\[height, width, 3\\]"),
        (np.zeros((1, 48, 64, 3), np.uint8), "instead of \\[height, width, 3\\]"),
        (np.ma.masked_array(np.zeros((48, 64, 3), np.uint8)), "masked array"),
        (None, "cannot be a NoneType"),
    ],
)
def test_what_is_no_frame_is_refused_as_ever(policy: Policy, bad: object, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        policy.act(bad)  # type: ignore[arg-type]


def test_a_held_first_frame_asks_for_frames_of_the_same_camera(make_bundle: Make, frame: np.ndarray) -> None:
    with Policy.load(make_bundle(frame="first", camera=CAMERA)) as policy:
        first = policy.act(frame)
        assert policy.act(policy.frame).held
        assert policy.act(frame).raw == first.raw
        with pytest.raises(ImageError, match="alone"):
            policy.act(frame[:40])


def test_prepared_pixels_are_refused_with_what_to_do(policy: Policy) -> None:
    for ask in (lambda: policy.pixel_values, lambda: policy.act_preprocessed(np.zeros((1, 3, 16, 16), "f4"))):
        with pytest.raises(InputError, match="takes frames of 64 by 48 as they are") as raised:
            ask()
        assert "Give the frame to act()" in raised.value.hint


def test_a_bundle_without_a_camera_has_no_frame(plain: Policy) -> None:
    with pytest.raises(InputError, match="takes no camera's frames") as raised:
        _ = plain.frame
    assert "--camera HEIGHTxWIDTH" in raised.value.hint


def test_channels_are_the_cameras(make_bundle: Make) -> None:
    rgb, bgr = make_bundle(name="rgb", camera=CAMERA), make_bundle(name="bgr", camera=OPENCV)
    for folder, own, other, option in (
        (rgb, "rgb", "bgr", "--camera 48x64 --bgr;"),
        (bgr, "bgr", "rgb", "--camera 48x64;"),
    ):
        assert Policy.load(folder).channels == own
        assert Policy.load(folder, channels=own).channels == own  # type: ignore[arg-type]
        for kind in (Policy, BatchPolicy):
            with pytest.raises(InputError, match="its camera's frames as") as raised:
                kind.load(folder, channels=other)  # type: ignore[arg-type]
            assert option in raised.value.hint
    with pytest.raises(InputError, match="'gbr' are not known"):
        Policy.load(rgb, channels="gbr")  # type: ignore[arg-type]


def test_without_a_camera_arrays_are_rgb_unless_said(pristine_bundle: Path) -> None:
    assert Policy.load(pristine_bundle).channels == "rgb"
    assert Policy.load(pristine_bundle, channels="bgr").channels == "bgr"


def test_warmup_needs_no_frame(policy: Policy, frame: np.ndarray) -> None:
    policy.warmup(1)
    assert policy.act(frame).raw == policy.act(frame).raw


@pytest.mark.parametrize("carried", [False, True])
def test_a_batch_takes_frames_and_tells_which_are_of_another_size(
    make_bundle: Make, frame: np.ndarray, carried: bool
) -> None:
    fields = {"camera": CAMERA, "carried": carried}
    with (
        BatchPolicy.load(make_bundle(name="four", batch=4, **fields)) as four,
        Policy.load(make_bundle(name="one", **fields)) as one,
    ):
        four.warmup(1)
        first, refused, second = four.act([frame, frame[:, :40], Image.fromarray(255 - frame)])
        assert isinstance(refused, ImageError)
        for taken, wanted in ((first, frame), (second, 255 - frame)):
            one.reset()
            assert not isinstance(taken, ImageError)
            assert taken.raw == pytest.approx(one.act(wanted).raw, abs=1e-6)


def test_the_controller_watches_the_engines_own_frame(policy: Policy, frame: np.ndarray) -> None:
    controller = Controller(policy, ControllerOptions(deadline_ms=10_000, repeats_allowed=2, repeats_ms=None))
    for at in range(4):
        policy.frame[0] = np.roll(frame, at, axis=1)
        assert not controller.step(policy.frame).stopped
    reasons = [controller.step(policy.frame).reason for _ in range(5)]
    assert "the camera repeats itself" in reasons[-1]


def test_the_controller_stops_for_a_dark_frame_in_the_engine(policy: Policy) -> None:
    controller = Controller(policy, ControllerOptions(deadline_ms=10_000))
    policy.frame.fill(3)
    assert "shows nothing" in controller.step(policy.frame).reason


def test_another_size_stops_the_robot(policy: Policy, frame: np.ndarray) -> None:
    controller = Controller(policy, ControllerOptions(deadline_ms=10_000))
    command = controller.step(frame[:, :60])
    assert command.stopped
    assert "the frame is 60 pixels wide and 48 high" in command.reason


SHAPES = st.sampled_from([(9, 11, 3), (1, 9, 11, 3), (9, 11), (9, 11, 4), (3, 9, 11), (11, 9, 3), (9, 12, 3)])


@settings(max_examples=200, deadline=None)
@given(
    shape=SHAPES,
    dtype=st.sampled_from([np.uint8, np.int8, np.uint16, np.float32, np.bool_]),
    flips=st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1]), st.sampled_from([1, -1])),
    channels=st.sampled_from(["rgb", "bgr"]),
    seed=st.integers(0, 1 << 16),
)
def test_whatever_array_is_given_it_is_in_the_engine_byte_for_byte_or_refused(
    shape: tuple[int, ...], dtype: Any, flips: tuple[int, int, int], channels: Any, seed: int
) -> None:
    writer = FrameWriter(Camera(height=9, width=11, channels=channels))
    out = np.full((1, 9, 11, 3), 7, np.uint8)
    frame = np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)
    if frame.ndim == 3:
        frame = frame[:: flips[0], :: flips[1], :: flips[2]]
    taken = frame.shape == (9, 11, 3) and frame.dtype == np.uint8
    if taken:
        writer(frame, out)
        assert np.array_equal(out[0], frame)
        return
    with pytest.raises(ImageError) as raised:
        writer(frame, out)
    assert raised.value.hint
    assert (out == 7).all()
