"""The C++ host, compiled against a TensorRT of host memory, answers as Python does and stops on every fault.

That it compiles against the headers of real ones: docs/cpp.md tells with which that was done.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_process import EXAMPLES, run_example
from fake_tensorrt import FakeDevice, FakeEngine, FakeTensorRt, fake_library
from part_plans import make_parts_plan
from plan_bundles import make_plan
from tiny_bundle import LEFT

from vla_edge.runtime import Bundle, Policy
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.nvidia_gpu import has_nvidia_gpu
from vla_edge.runtime.engines.tensorrt import session as tensorrt_session
from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart

DESCRIBE = EXAMPLES / "11_cpp_host" / "describe.py"
SHAPE = (24, 32, 3)
FIELDS: dict[str, Any] = {"camera": (24, 32, "rgb"), "scale": (1e-7, -2e-7), "offset": (0.0, 0.5)}
FRAMES = [np.random.default_rng(at).integers(0, 256, SHAPE, dtype=np.uint8) for at in range(1, 5)]
STOP = "+0.0000 +0.0000 "


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None or not Path("/usr/include/openssl/evp.h").exists():
        pytest.skip("no g++ or no OpenSSL headers here: apt install g++ libssl-dev")
    program = tmp_path_factory.mktemp("host") / "host"
    fakes = EXAMPLES.parent / "tests" / "support" / "fake_nvinfer"
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    source = EXAMPLES / "11_cpp_host" / "host.cpp"
    command = [
        "g++",
        "-std=c++17",
        *warnings,
        *sanitizers,
        "-isystem",
        fakes,
        source,
        "-o",
        program,
        "-lcrypto",
    ]
    subprocess.run(command, check=True)
    return program


def text_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    """A plan that the TensorRT in C++ reads."""
    return "".join(
        f"{way} {each.name} {each.dtype} {int(np.prod(each.shape))}\n"
        for way, tensors in (("in", inputs), ("out", outputs))
        for each in tensors
    ).encode()


class Described:
    """A bundle with its plan, described as a reader does it but for the GPU; `policy` is the one in Python."""

    def __init__(self, folder: Path, bundle: Path, in_parts: bool, patch: pytest.MonkeyPatch) -> None:
        opened = Bundle.open(bundle)
        manifest, device = opened.manifest, FakeDevice([])
        trt = FakeTensorRt(device, manifest)
        if in_parts:
            seen = TensorSpec(name="seen", dtype="float32", shape=(1, 1))
            parts = (
                ChainPart("camera", manifest.inputs[:1], (seen,)),
                ChainPart("head", (seen, *manifest.inputs[1:]), manifest.outputs),
            )
            texts = {part.name: text_of(part.inputs, part.outputs) for part in parts}
            self.plan = make_parts_plan(opened, parts, texts)
            for part in parts:
                trt.engines[texts[part.name]] = [
                    FakeEngine(device, ChainPart(part.name, part.inputs, part.outputs))  # type: ignore[arg-type]
                    for _ in range(4)
                ]
        else:
            data = text_of(manifest.inputs, manifest.outputs)
            self.plan = make_plan(opened, data=data)
            trt.engines[data] = [FakeEngine(device, manifest) for _ in range(4)]
        patch.setattr(tensorrt_session, "open_device", lambda index, memory: device)
        patch.setattr(tensorrt_session, "load_library", lambda backend: fake_library(trt))
        self.bundle, self.text = bundle, folder / "policy.txt"
        self._patch = patch

    def describe(self, *instruction: str) -> None:
        self._patch.setattr(sys, "argv", ["describe.py", str(self.bundle), str(self.text), *instruction])
        runpy.run_path(str(DESCRIBE), run_name="__main__")

    def expected(self, *instruction: str) -> list[str]:
        with Policy.load(self.bundle, backend="tensorrt") as policy:
            actions = [policy.act(frame, *instruction).values for frame in FRAMES]
        return ["".join(f"{value:+.4f} " for value in values) for values in actions]


@pytest.fixture
def described(
    tmp_path: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Described]:
    def make(in_parts: bool = False, **fields: Any) -> Described:
        return Described(tmp_path, make_bundle(**{**FIELDS, **fields}), in_parts, monkeypatch)

    return make


def run_host(host: Path, text: Path, frames: bytes, **environment: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        [host, text, "2000"],
        input=frames,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **environment},
    )
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()


ALL = b"".join(frame.tobytes() for frame in FRAMES)


@pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
@pytest.mark.parametrize("carried", [False, True], ids=["", "carried"])
@pytest.mark.parametrize("frame", ["current", "first"])
def test_it_answers_as_python_does(
    host: Path, described: Callable[..., Described], in_parts: bool, carried: bool, frame: str
) -> None:
    there = described(in_parts, carried=carried, frame=frame, indexed=True)
    there.describe()
    expected = there.expected()
    assert len(set(expected)) == (1 if frame == "first" else 4)
    assert run_host(host, there.text, ALL) == (0, [STOP, *expected, STOP], "")


def test_it_follows_the_instruction_that_it_was_described_with(
    host: Path, described: Callable[..., Described]
) -> None:
    there = described(scale=(1e-4, 1e-4), limit=(100.0, 100.0))
    there.describe(LEFT)
    assert there.expected(LEFT) != there.expected()
    assert run_host(host, there.text, ALL)[:2] == (0, [STOP, *there.expected(LEFT), STOP])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FAKE_HANG_AT": "4"}, "the engine has not answered in time"),
        ({"FAKE_NAN_AT": "4"}, "linear_x is not finite"),
    ],
)
def test_an_engine_that_hangs_or_makes_no_numbers_stops_the_robot(
    host: Path, described: Callable[..., Described], environment: dict[str, str], words: str
) -> None:
    there = described()
    there.describe()
    code, lines, errors = run_host(host, there.text, ALL, **environment)
    assert (code, lines) == (1, [STOP, there.expected()[0], STOP])
    assert words in errors


def test_frames_that_end_in_the_middle_stop_the_robot(
    host: Path, described: Callable[..., Described]
) -> None:
    there = described()
    there.describe()
    code, lines, errors = run_host(host, there.text, ALL[:-1])
    assert (code, lines) == (1, [STOP, *there.expected()[:3], STOP])
    assert "the frames end in the middle of one" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_a_signal_or_a_silent_camera_stops_the_robot(
    host: Path, described: Callable[..., Described], number: signal.Signals | None
) -> None:
    there = described()
    there.describe()
    pipe = subprocess.PIPE
    with subprocess.Popen([host, there.text, "2000"], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(FRAMES[0].tobytes())
        process.stdin.flush()
        for line in process.stdout:
            if line.decode().rstrip("\n") != STOP:
                break
        if number is not None:
            process.send_signal(number)
        rest, errors = process.stdout.read(), process.stderr.read() if process.stderr else b""
        process.wait(timeout=30)
        process.stdin.close()
    assert rest.decode() == f"{STOP}\n"
    assert process.returncode == (1 if number is None else 128 + number)
    assert (b"no frame in time" in errors) == (number is None)


def test_a_plan_that_was_changed_is_not_deserialised(host: Path, described: Callable[..., Described]) -> None:
    there = described()
    there.describe()
    there.plan.write_bytes(there.plan.read_bytes().replace(b"uint8", b"uint9"))
    code, lines, errors = run_host(host, there.text, ALL)
    assert (code, lines) == (1, [STOP, STOP])
    assert "was changed: run describe.py again" in errors
    there.plan.write_bytes(there.plan.read_bytes() + b" ")
    assert "is missing or of another size" in run_host(host, there.text, ALL)[2]
    there.plan.unlink()
    assert "is missing or of another size" in run_host(host, there.text, ALL)[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("vla-host 1", "vla-host 2"), "is not from describe.py"),
        (("\nend\n", "\n"), "is cut short"),
        (("input frame", "inputs frame"), "unknown line inputs"),
        (("uint8", "int32"), "has another dtype or size of frame"),
        (("input input_ids token_ids", "input input_ids other"), "nothing feeds the role other"),
        (("input frame frame", "input frames frame"), "has an unknown tensor frame"),
        (("component linear_x m/s 1e-07", "component linear_x m/s 9e-07"), "is not the one of describe.py"),
        (("component linear_x m/s 1e-07", "component linear_x m/s x"), "is damaged at component"),
        (
            ("\npart ", "\ninput extra instruction_index int32 1\npart "),
            "extra holds no numbers of four bytes",
        ),
        (("\npart ", "\ninput extra instruction_index int32 4\npart "), "extra is in no part"),
        (("\npart ", "\nbetween extra - float32 18446744073709551615\npart "), "extra has no size"),
        (("\npart ", "\nstate actions input_ids\npart "), "actions does not become input_ids"),
        (("\npart ", "\nstate nothing input_ids\npart "), "no tensor for its nothing"),
        (("\npart ", "\npart 9"), "is missing or of another size"),
        (("\ncheck ", "\ncomponent z m 1 0 1\ncheck 0 "), "no action for each component"),
        (("\nend", "\ncomponent z m 1 0 1\nend"), "no action for each component"),
    ],
)
def test_a_description_that_is_another_is_refused(
    host: Path, described: Callable[..., Described], change: tuple[str, str], words: str
) -> None:
    there = described()
    there.describe()
    text = there.text.read_text()
    assert change[0] in text
    there.text.write_text(text.replace(*change))
    code, lines, errors = run_host(host, there.text, ALL)
    assert code == 1
    assert [line for line in lines if line != STOP] in ([], [""])
    assert words in errors


def test_the_host_refuses_wrong_use(host: Path, tmp_path: Path) -> None:
    assert subprocess.run([host], capture_output=True, timeout=60, check=False).returncode == 2
    done = subprocess.run([host, tmp_path, "nan"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    code, _, errors = run_host(host, tmp_path / "nope", b"")
    assert (code, "nope is not from describe.py" in errors) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "arguments are required: bundle, target"), (["nope", "out"], "nope does not exist.")],
)
def test_the_description_refuses_wrong_use(arguments: list[str], words: str) -> None:
    done = run_example("11_cpp_host/describe.py", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.skipif(has_nvidia_gpu(), reason="what is said without a GPU")
def test_without_a_plan_nothing_is_described(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    done = run_example("11_cpp_host/describe.py", make_bundle(**FIELDS), tmp_path / "policy.txt")
    assert done.returncode == 1
    assert "TensorRT is not installed" in done.stderr
    assert not (tmp_path / "policy.txt").exists()


def test_an_instruction_that_is_not_held_is_refused(
    described: Callable[..., Described], capsys: pytest.CaptureFixture[str]
) -> None:
    there = described()
    with pytest.raises(SystemExit) as ended:
        there.describe("dance")
    assert ended.value.code == 2
    assert "'dance' is not held by the bundle" in capsys.readouterr().err
