"""Batches, two policies, a stream and memory of one's own: on the CPU, and the order of calls on a fake GPU."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from example_process import EXAMPLES, PHOTOGRAPH, run_example
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from PIL import Image
from plan_bundles import make_plan
from tiny_bundle import DEFAULT, ENGLISH, LEFT

from vla_edge.runtime import Bundle, Policy
from vla_edge.runtime.cuda import opening
from vla_edge.runtime.engines import nvidia_gpu
from vla_edge.runtime.engines.tensorrt import session as tensorrt_session

BATCH = "08_batch/batch.py"
SESSION = "08_batch/session.py"
TWO = "09_two_policies/two.py"
FRAME = "10_stream_and_memory/frame.py"
NO_GPU = "no GPU: "


def acted(bundle: Path, instruction: str | None = None) -> list[str]:
    with Policy.load(bundle) as policy:
        return [f"{value:+.3f}" for value in policy.act(PHOTOGRAPH, instruction).values]


def test_each_image_of_a_batch_has_its_action_or_why_it_has_none(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = [PHOTOGRAPH, tmp_path / "bad.png", PHOTOGRAPH, PHOTOGRAPH]
    done = run_example(BATCH, make_bundle(batch=3), *images)
    expected = " ".join([str(PHOTOGRAPH), *acted(make_bundle(name="one"))])
    assert done.returncode == 1
    assert done.stdout.splitlines() == [expected] * 3
    assert "bad.png is not an image" in done.stderr


def test_a_session_fed_by_hand_answers_as_the_policy_does(make_bundle: Callable[..., Path]) -> None:
    texts = [DEFAULT, LEFT, ENGLISH]
    done = run_example(SESSION, make_bundle(batch=4, indexed=True, carried=True), PHOTOGRAPH)
    assert (done.returncode, done.stderr) == (0, "")
    one = make_bundle(name="one", indexed=True, carried=True)
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [*texts, DEFAULT]
    for text, *values in lines:
        assert [value.split()[1] for value in values] == acted(one, text)


def test_a_session_fed_by_hand_refuses_what_it_does_not_feed(make_bundle: Callable[..., Path]) -> None:
    done = run_example(SESSION, make_bundle(camera=(48, 64, "rgb")), PHOTOGRAPH)
    assert (done.returncode, done.stderr) == (2, "this example does not feed inputs of role frame\n")


def test_a_session_fed_by_hand_passes_on_nothing_that_is_not_finite(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "dark.png")
    done = run_example(SESSION, make_bundle(nan_when_dark=True), tmp_path / "dark.png")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the engine returned an action that is not finite\n"


def test_two_policies_act_beside_each_other(make_bundle: Callable[..., Path]) -> None:
    one, other = make_bundle(), make_bundle(name="other", scale=(0.25, 1.0))
    done = run_example(TWO, one, other, PHOTOGRAPH)
    assert (done.returncode, done.stderr) == (0, "")
    note, first, second, apart = done.stdout.splitlines()
    assert note.startswith(NO_GPU)
    assert first.split()[:2] == acted(one)
    assert second.split()[:2] == acted(other)
    assert float(apart.removeprefix("apart by ")) > 0.1


def test_frames_go_through_the_engines_own_memory_on_a_cpu_too(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(camera=(48, 64, "bgr"))
    done = run_example(FRAME, bundle)
    assert (done.returncode, done.stderr) == (0, "")
    note, *lines, engine = done.stdout.splitlines()
    assert note.startswith(NO_GPU)
    assert "Running on the CPU" in note
    assert "CPUExecutionProvider" in engine
    with Policy.load(bundle) as policy:
        frames = [np.random.default_rng(at).integers(0, 256, (48, 64, 3), dtype=np.uint8) for at in range(3)]
        expected = [[f"{value:+.3f}" for value in policy.act(frame).values] for frame in frames]
    assert [line.split()[-2:] for line in lines] == expected


@pytest.fixture
def on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[FakeDevice, list[str]]]:
    """Runs an example with bundles on a GPU of host memory: the device, with its log, and what was printed."""

    def run(example: str, bundles: list[Path], *arguments: object) -> tuple[FakeDevice, list[str]]:
        device = FakeDevice([])
        opened = [Bundle.open(folder) for folder in dict.fromkeys(bundles)]
        for bundle in opened:
            make_plan(bundle)
        library = fake_library(FakeTensorRt(device, opened[0].manifest))
        monkeypatch.setattr(opening, "open_device", lambda index=0, memory="": device)
        monkeypatch.setattr(tensorrt_session, "open_device", lambda index, memory: device)
        monkeypatch.setattr(tensorrt_session, "load_library", lambda backend: library)
        monkeypatch.setattr("vla_edge.runtime.engines.choice._installed", lambda: ["tensorrt"])
        monkeypatch.setattr(nvidia_gpu, "has_nvidia_gpu", lambda: True)
        monkeypatch.setattr(sys, "argv", [example, *map(str, bundles), *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")
        return device, capsys.readouterr().out.splitlines()

    return run


def test_on_a_gpu_the_engine_runs_on_the_examples_stream_which_outlives_it(
    make_bundle: Callable[..., Path], on_a_gpu: Callable[..., tuple[FakeDevice, list[str]]]
) -> None:
    device, lines = on_a_gpu(FRAME, [make_bundle(camera=(48, 64, "rgb"))])
    assert device.log.count("create stream") == 1  # the session makes none
    assert device.log.index("destroy stream") > max(
        at for at, what in enumerate(device.log) if what == "drop context"
    )
    assert device.live == {}
    assert len(lines) == 7
    assert lines[-1].endswith("CUDA graph")
    # the frame from the device is queued, and the engine after it, with no wait between
    start = [at for at, what in enumerate(device.log) if what == "launch graph"][-1]
    assert device.log[start - 2 : start + 1] == ["copy in", "copy out", "launch graph"]


def test_on_a_gpu_two_policies_of_one_bundle_load_one_engine(
    make_bundle: Callable[..., Path], on_a_gpu: Callable[..., tuple[FakeDevice, list[str]]]
) -> None:
    bundle = make_bundle()
    device, lines = on_a_gpu(TWO, [bundle, bundle], PHOTOGRAPH)
    assert device.log.count("deserialise") == 1
    assert device.log.count("create context") == 2
    assert lines[0] == "the second one took 0 MiB of the device"
    assert lines[-1] == "apart by 0.000"


@pytest.mark.parametrize(
    ("example", "arguments", "words"),
    [
        (BATCH, ["nope"], "arguments are required: IMAGE"),
        (BATCH, ["nope", "nope.png"], "nope does not exist."),
        (SESSION, ["nope", "nope.png"], "nope does not exist."),
        (TWO, ["nope", "nope"], "arguments are required: image"),
        (TWO, ["nope", "nope", "nope.png"], "nope does not exist."),
        (FRAME, [], "arguments are required: bundle"),
        (FRAME, ["nope"], "nope does not exist."),
    ],
)
def test_wrong_use_ends_with_words_and_exit_code_2(example: str, arguments: list[str], words: str) -> None:
    done = run_example(example, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_without_a_camera_has_no_frame_to_write_into(pristine_bundle: Path) -> None:
    done = run_example(FRAME, pristine_bundle)
    assert done.returncode == 2
    assert "takes no camera's frames as they are" in done.stderr
