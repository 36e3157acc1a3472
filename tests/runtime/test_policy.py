"""A policy acts on frames, carries what it must, and stops where it cannot go on."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime import Bundle, Policy, Preprocessor, open_session
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.engines.session import Session
from vla_edge.runtime.errors import (
    BundleError,
    EngineError,
    ImageError,
    InputError,
    InstructionError,
    NonFiniteActionError,
)

Make = Callable[..., Path]
Reference = Callable[..., dict[str, np.ndarray]]
DEFAULT = "컵까지 가세요"
BRIGHT = np.full((48, 64, 3), 220, np.uint8)


@pytest.fixture
def policy(pristine_bundle: Path) -> Policy:
    return Policy.load(pristine_bundle)


def inputs_for(policy: Policy, frame: np.ndarray, at: int = 0) -> dict[str, np.ndarray]:
    """The graph's inputs, made without Policy."""
    manifest = policy.manifest
    pixels = np.zeros((1, 3, 16, 16), np.float32)
    Preprocessor(manifest.preprocessing)(frame, pixels)
    ids = manifest.instructions[at].graph_ids
    rest = manifest.prompt.length - len(ids)
    return {
        "pixel_values": pixels,
        "input_ids": np.array([[*ids, *[manifest.prompt.pad_id] * rest]], np.int32),
        "attention_mask": np.array([[1] * len(ids) + [0] * rest], np.int32),
        "instruction_index": np.array([at], np.int32),
    }


def test_an_action_is_what_the_graph_says_scaled_to_mps(
    policy: Policy, frame: np.ndarray, numpy_reference: Reference
) -> None:
    action = policy.act(frame)
    raw = numpy_reference(inputs_for(policy, frame))["actions"][0, 0]
    assert action.raw == pytest.approx(raw.tolist(), abs=1e-6)
    assert action.linear_x == pytest.approx(raw[0] * 0.5, abs=1e-6)
    assert action.linear_y == pytest.approx(raw[1] * 2.0, abs=1e-6)
    assert action.instruction == DEFAULT
    assert action.engine is policy.identity
    assert not action.held


def test_timings_add_up(policy: Policy, frame: np.ndarray) -> None:
    timings_ms = policy.act(frame).timings_ms
    assert set(timings_ms) == {"preprocess", "engine", "total"}
    assert 0 < timings_ms["preprocess"] + timings_ms["engine"] <= timings_ms["total"] < 10_000


def test_each_instruction_gives_its_own_action(
    make_bundle: Make, frame: np.ndarray, numpy_reference: Reference
) -> None:
    policy = Policy.load(make_bundle(indexed=True))
    for at in (0, 1, 2, 1, 1, 0):
        action = policy.act(frame, policy.instructions[at])
        raw = numpy_reference(inputs_for(policy, frame, at), indexed=True)["actions"][0, 0]
        assert action.raw == pytest.approx(raw.tolist(), abs=1e-6)
        assert action.instruction == policy.instructions[at]


def test_a_decomposed_instruction_is_the_declared_one(policy: Policy, frame: np.ndarray) -> None:
    assert policy.act(frame, unicodedata.normalize("NFD", DEFAULT)).raw == policy.act(frame, DEFAULT).raw


def test_an_unknown_instruction_leaves_the_policy_usable(policy: Policy, frame: np.ndarray) -> None:
    with pytest.raises(InstructionError, match="does not hold the instruction 'fly'"):
        policy.act(frame, "fly")
    assert policy.act(frame).instruction == DEFAULT


def test_a_new_instruction_runs_where_the_vocabulary_was_kept(
    make_bundle: Make, frame: np.ndarray, numpy_reference: Reference
) -> None:
    policy = Policy.load(make_bundle(vocabulary="full"))
    inputs = inputs_for(policy, frame)
    inputs["input_ids"] = np.array([[0, 2, 2, 2, 2, 2, 3, 11, 16, *[1] * 7]], np.int32)
    inputs["attention_mask"] = np.array([[1] * 9 + [0] * 7], np.int32)
    wanted = numpy_reference(inputs, vocabulary="full")["actions"][0, 0]
    assert policy.act(frame, "go left").raw == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_path_an_image_and_an_array_give_the_same_action(
    policy: Policy, frame: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "frame.png"
    Image.fromarray(frame).save(path)
    wanted = policy.act(frame).raw
    assert (
        policy.act(path).raw == policy.act(str(path)).raw == policy.act(Image.fromarray(frame)).raw == wanted
    )


@pytest.mark.parametrize("batched", [True, False])
def test_preprocessed_pixels_give_the_same_action(policy: Policy, frame: np.ndarray, batched: bool) -> None:
    pixels = inputs_for(policy, frame)["pixel_values"]
    assert policy.act_preprocessed(pixels if batched else pixels[0]).raw == policy.act(frame).raw
    np.copyto(policy.pixel_values, pixels)
    assert policy.act_preprocessed(policy.pixel_values).raw == policy.act(frame).raw


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((1, 3, 16, 16), np.float64), "are float64 instead of float32"),
        (np.zeros((1, 16, 16, 3), np.float32), r"have shape \[1, 16, 16, 3\] instead of \[1, 3, 16, 16\]"),
        (np.full((1, 3, 16, 16), np.nan, np.float32), "hold NaN or infinity"),
        ([[0.0]], "are list instead of float32"),
        (np.ma.masked_array(np.ones((1, 3, 16, 16), np.float32), mask=True), "are a masked array"),
        (np.ma.masked_array(np.ones((3, 16, 16), np.float32)), "are a masked array"),
        (np.ma.masked_invalid(np.full((1, 3, 16, 16), np.nan, np.float32)), "are a masked array"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(policy: Policy, pixels: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        policy.act_preprocessed(pixels)


def test_a_bad_frame_leaves_the_policy_usable(policy: Policy, frame: np.ndarray) -> None:
    wanted = policy.act(frame).raw
    with pytest.raises(ImageError):
        policy.act(frame[..., 0])
    assert policy.act(frame).raw == wanted


def test_a_command_beyond_the_limit_is_clamped(make_bundle: Make, frame: np.ndarray) -> None:
    policy = Policy.load(make_bundle(limit=(0.01, 0.02)))
    action = policy.act(frame)
    assert [abs(value) for value in action.values] == [0.01, 0.02]
    assert action.clamped


def test_a_policy_of_several_steps_gives_them_all(make_bundle: Make, frame: np.ndarray) -> None:
    action = Policy.load(make_bundle(steps=3)).act(frame)
    assert len(action.chunk) == 3
    assert action.chunk[0] == action.values


def test_state_is_carried_from_call_to_call_and_zeroed_by_reset(
    make_bundle: Make, frame: np.ndarray, numpy_reference: Reference
) -> None:
    policy = Policy.load(make_bundle(carried=True))
    for _ in range(2):
        policy.reset()
        state = np.zeros((1, 1, 2), np.float32)
        for step in range(4):
            seen = np.roll(frame, step * 7, axis=1) // (step + 1)
            wanted = numpy_reference({**inputs_for(policy, seen), "h_in": state}, carried=True)
            assert policy.act(seen).raw == pytest.approx(wanted["actions"][0, 0].tolist(), abs=1e-5)
            state = wanted["h_out"]


def test_warming_up_leaves_an_episode_as_it_is(make_bundle: Make, frame: np.ndarray) -> None:
    first, second = (Policy.load(make_bundle(name=name, carried=True)) for name in ("one", "two"))
    for policy in (first, second):
        policy.act(frame)
    first.warmup(5)
    assert first.act(BRIGHT).raw == second.act(BRIGHT).raw


def test_a_policy_of_first_frames_repeats_its_first_action_until_reset(
    make_bundle: Make, frame: np.ndarray
) -> None:
    policy = Policy.load(make_bundle(frame="first"))
    first = policy.act(frame)
    assert not first.held
    for later in (BRIGHT, frame, BRIGHT):
        repeated = policy.act(later)
        assert repeated.held
        assert repeated.values == first.values
        assert repeated.timings_ms["engine"] == 0.0
    assert policy.act_preprocessed(np.zeros((1, 3, 16, 16), np.float32)).held
    policy.reset()
    fresh = policy.act(BRIGHT)
    assert not fresh.held
    assert fresh.values != first.values


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (None, "a frame cannot be a NoneType"),
        (np.zeros((48, 64), np.uint8), r"the frame has shape \[48, 64\]"),
        (np.zeros((48, 64, 3), np.float32), "the frame is float32"),
        (Image.new("F", (64, 48)), "pixels of mode 'F'"),
        ("gone.png", "gone.png cannot be read: No such file"),
        (os.devnull, "is a pipe or a device"),
    ],
)
def test_a_held_action_is_not_repeated_for_a_dead_camera(
    make_bundle: Make, frame: np.ndarray, tmp_path: Path, later: Any, words: str
) -> None:
    policy = Policy.load(make_bundle(frame="first"))
    policy.act(frame)
    with pytest.raises(ImageError, match=words):
        policy.act(later)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    for good in (frame, Image.fromarray(frame), tmp_path / "frame.png"):
        assert policy.act(good).held


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (None, "are NoneType instead of float32"),
        (np.zeros((1, 3, 8, 8), np.float32), r"have shape \[1, 3, 8, 8\]"),
        (np.full((1, 3, 16, 16), np.nan, np.float32), "hold NaN or infinity"),
        (np.ma.masked_array(np.ones((1, 3, 16, 16), np.float32), mask=True), "are a masked array"),
    ],
)
def test_a_held_action_is_not_repeated_for_pixels_that_do_not_fit(
    make_bundle: Make, frame: np.ndarray, pixels: Any, words: str
) -> None:
    policy = Policy.load(make_bundle(frame="first"))
    policy.act(frame)
    with pytest.raises(ImageError, match=words):
        policy.act_preprocessed(pixels)


def test_a_held_action_is_not_passed_off_for_another_instruction(
    make_bundle: Make, frame: np.ndarray
) -> None:
    policy = Policy.load(make_bundle(frame="first"))
    policy.act(frame, "go to the cup")
    with pytest.raises(InstructionError, match="follows 'go to the cup', not '컵까지 가세요'") as raised:
        policy.act(frame)
    assert "call reset() before another instruction" in raised.value.hint
    policy.reset()
    assert policy.act(frame).instruction == DEFAULT


def test_nan_stops_the_policy_until_reset(make_bundle: Make, dark_frame: np.ndarray) -> None:
    policy = Policy.load(make_bundle(nan_when_dark=True))
    wanted = policy.act(BRIGHT).raw
    with pytest.raises(NonFiniteActionError, match="not finite"):
        policy.act(dark_frame)
    for _ in range(2):
        with pytest.raises(EngineError, match="refuses to go on") as raised:
            policy.act(BRIGHT)
        assert "reset()" in raised.value.hint
    with pytest.raises(EngineError, match="refuses to go on"):
        policy.act_preprocessed(np.ones((1, 3, 16, 16), np.float32))
    policy.reset()
    assert policy.act(BRIGHT).raw == wanted


def test_a_state_that_is_not_finite_stops_the_policy_and_is_not_kept(
    make_bundle: Make, frame: np.ndarray
) -> None:
    bundle = Bundle.open(make_bundle(carried=True))
    session = open_session(bundle)
    policy = Policy(bundle, session)
    wanted = policy.act(frame).raw
    session.inputs["h_in"].fill(np.nan)
    with pytest.raises(NonFiniteActionError):
        policy.act(frame)
    policy.reset()
    assert policy.act(frame).raw == wanted


class Interrupted(BaseException):
    """As a signal's handler raises it."""


def interrupt_at(policy: Policy, frame: np.ndarray, target: int, instruction: str | None) -> bool:
    """Whether an act was interrupted before that line of policy.py, counted as they are run."""
    seen = 0

    def trace(code: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        if not code.f_code.co_filename.endswith("runtime/policy.py"):
            return None
        seen += event == "line"
        if seen == target:
            raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        policy.act(frame, instruction)
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_act_interrupted_at_any_line_leaves_no_half_prompt_and_no_half_state(
    make_bundle: Make, frame: np.ndarray
) -> None:
    policy, untouched = (Policy.load(make_bundle(name=name, carried=True)) for name in ("one", "two"))
    refusals = set()
    for target in range(1, 200):
        policy.reset()
        policy.act(frame, DEFAULT)
        if not interrupt_at(policy, frame, target, "go to the cup"):
            break
        try:
            found = policy.act(frame, DEFAULT).raw
        except EngineError as error:
            refusals.add(error.problem)
            continue
        assert found in (
            raw_after(untouched, frame, DEFAULT),
            raw_after(untouched, frame, DEFAULT, "go to the cup"),
        )
    assert 20 < target < 199
    assert refusals == {"this policy was interrupted while it took over its state and refuses to go on."}


def raw_after(policy: Policy, frame: np.ndarray, *instructions: str) -> tuple[float, ...]:
    """The raw action for the default instruction after a whole episode of others."""
    policy.reset()
    for each in instructions:
        policy.act(frame, each)
    return policy.act(frame, DEFAULT).raw


def test_the_same_frame_gives_the_same_bits_every_time(policy: Policy, frame: np.ndarray) -> None:
    policy.warmup()
    wanted = policy.act(frame)
    for _ in range(200):
        policy.act(BRIGHT)
        assert policy.act(frame).raw == wanted.raw


def test_a_closed_policy_refuses_everything_but_closing(pristine_bundle: Path, frame: np.ndarray) -> None:
    with Policy.load(pristine_bundle) as policy:
        policy.act(frame)
    policy.close()
    for use in (lambda: policy.act(frame), policy.reset, policy.warmup):
        with pytest.raises(EngineError, match="this policy is closed"):
            use()


def test_two_threads_at_once_are_refused_instead_of_mixing_frames(policy: Policy) -> None:
    frames = [
        np.full((1000, 1500, 3), grey, np.uint8) for grey in (40, 200)
    ]  # Pillow lets others run meanwhile
    wanted = [policy.act(each).raw for each in frames]
    found: list[list[object]] = [[], []]

    def attempt(mine: int) -> object:
        try:
            return policy.act(frames[mine]).raw
        except EngineError as error:
            return error

    def work(mine: int) -> None:
        found[mine] = [attempt(mine) for _ in range(100)]

    run_threads(work, (0,), (1,))
    refusals = [each for each in (*found[0], *found[1]) if isinstance(each, EngineError)]
    assert refusals
    assert all("in use by another thread" in error.problem for error in refusals)
    for mine in (0, 1):
        assert {each for each in found[mine] if not isinstance(each, EngineError)} <= {wanted[mine]}
    assert len(refusals) < 200


def run_threads(work: Callable[..., None], *arguments: tuple[Any, ...]) -> None:
    threads = [threading.Thread(target=work, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_take_turns_get_right_actions(policy: Policy, frame: np.ndarray) -> None:
    wanted = {True: policy.act(frame).raw, False: policy.act(BRIGHT).raw}
    lock, wrong = threading.Lock(), []

    def work(mine: bool) -> None:
        for _ in range(100):
            with lock:
                if policy.act(frame if mine else BRIGHT).raw != wanted[mine]:
                    wrong.append(mine)

    run_threads(work, (True,), (False,))
    assert not wrong


def test_several_policies_live_in_one_process(make_bundle: Make, frame: np.ndarray) -> None:
    one, two = Policy.load(make_bundle(name="one")), Policy.load(make_bundle(name="two", precision="fp16"))
    assert one.act(frame).raw == pytest.approx(two.act(frame).raw, abs=1e-3)
    assert one.act(frame).engine.bundle.startswith("one ")
    assert two.act(frame).engine.precision == "fp16"


def test_a_damaged_bundle_does_not_load(tiny_bundle: Path) -> None:
    path = tiny_bundle / "model.onnx.data"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"model.onnx.data was changed"):
        Policy.load(tiny_bundle)


class Planted(Exception):
    """An error that nobody has foreseen."""


@pytest.mark.parametrize("kind", [Policy, BatchPolicy])
def test_a_policy_that_cannot_be_made_closes_its_session(
    pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Policy | BatchPolicy]
) -> None:
    opened = []

    def fail(self: Policy | BatchPolicy, bundle: Bundle, session: Session, channels: str) -> None:
        opened.append(session)
        raise Planted

    monkeypatch.setattr(kind, "__init__", fail)
    with pytest.raises(Planted):
        kind.load(pristine_bundle)
    with pytest.raises(EngineError, match="session is closed"):
        opened[0].run()


def test_a_bundle_of_another_batch_is_not_for_a_policy(make_bundle: Make) -> None:
    with pytest.raises(InputError, match="takes 3 frames at a time; a policy acts on one") as raised:
        Policy.load(make_bundle(batch=3))
    assert "--batch 1" in raised.value.hint


def test_an_input_that_nothing_would_fill_is_refused(make_bundle: Make) -> None:
    with pytest.raises(BundleError, match="depth_values"):
        Policy.load(make_bundle(extra_input="depth_values"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fields: fields["preprocessing"].update(height=32), r"pixel_values \[1, 3, 16, 16\]"),
        (lambda fields: fields["prompt"].update(length=20), r"input_ids \[1, 16\]"),
        (lambda fields: fields["outputs"][0].update(shape=[1, 1, 3]), r"actions float32 \[1, 1, 3\]"),
        (lambda fields: fields["outputs"][0].update(role="other"), "0 of its outputs are the actions"),
    ],
)
def test_a_manifest_that_contradicts_its_graph_is_refused_before_loading(
    tiny_bundle: Path,
    edit_manifest: Callable[..., None],
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    edit_manifest(tiny_bundle, change)
    with pytest.raises(BundleError, match=words):
        Policy.load(tiny_bundle)


def test_a_state_that_feeds_an_output_from_an_input_is_refused(
    make_bundle: Make, edit_manifest: Callable[..., None]
) -> None:
    bundle = make_bundle(carried=True)
    edit_manifest(
        bundle, lambda fields: fields["runtime"].update(state=[["h_in", "h_out"], ["h_out", "h_in"]])
    )
    with pytest.raises(BundleError, match=r"runtime.state names \('h_out', 'h_in'\)"):
        Policy.load(bundle)
