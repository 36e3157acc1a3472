"""The examples that a GPU changes, on one: shared weights, a stream of one's own, a host in C++."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from example_process import EXAMPLES, PHOTOGRAPH, run_example
from PIL import Image

from vla_edge.export.build.build import build_plan
from vla_edge.runtime import Bundle, Policy

pytestmark = pytest.mark.gpu
SHAPE = (48, 64, 3)
# NvInfer.h is in no wheel: https://github.com/NVIDIA/TensorRT has it, in include/ of the release's branch.
HEADERS = os.environ.get("TENSORRT_INCLUDE", "")


@pytest.fixture
def built(make_bundle: Callable[..., Path]) -> Path:
    folder = make_bundle(camera=(*SHAPE[:2], "rgb"))
    build_plan(Bundle.open(folder))
    return folder


def test_frames_go_through_the_engines_own_memory_on_a_stream_of_ones_own(built: Path) -> None:
    done = run_example("10_stream_and_memory/frame.py", built)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, engine = done.stdout.splitlines()
    assert engine.endswith("CUDA graph")
    answers = [line.split()[-2:] for line in lines]
    assert answers[0::2] == answers[1::2]  # by way of the device, the same frame


def test_a_second_policy_of_the_same_bundle_takes_little(built: Path) -> None:
    image = built / "frame.png"
    Image.open(PHOTOGRAPH).resize((SHAPE[1], SHAPE[0])).save(image)
    done = run_example("09_two_policies/two.py", built, built, image)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MiB of the device" in done.stdout
    assert done.stdout.splitlines()[-1] == "apart by 0.000"


@pytest.mark.skipif(not HEADERS, reason="TENSORRT_INCLUDE names no folder with NvInfer.h")
def test_the_host_in_cpp_answers_as_python_does(built: Path, tmp_path: Path) -> None:
    text, host = tmp_path / "policy.txt", tmp_path / "host"
    done = run_example("11_cpp_host/describe.py", built, text)
    assert (done.returncode, done.stderr) == (0, "")
    compile_host(host)
    frames = [np.random.default_rng(at).integers(0, 256, SHAPE, dtype=np.uint8) for at in range(20)]
    told = b"".join(frame.tobytes() for frame in frames)
    done = subprocess.run([host, text, "100"], input=told, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    first, *lines, last = done.stdout.decode().splitlines()
    assert first == last == "+0.0000 +0.0000 "
    with Policy.load(built) as policy:
        expected = [policy.act(frame).values for frame in frames]
    assert np.array([line.split() for line in lines], float) == pytest.approx(np.array(expected), abs=1e-4)


def compile_host(target: Path) -> None:
    """Against the headers of TensorRT that are named, those of CUDA that Triton brings, and the libraries in wheels."""
    import tensorrt_libs
    import triton

    packages = Path(triton.__file__).parents[1]
    cudart = next(packages.glob("nvidia/*/lib/libcudart.so.*"))
    nvinfer = next(Path(tensorrt_libs.__path__[0]).glob("libnvinfer.so.*"))
    libraries = [arg for path in (nvinfer, cudart) for arg in (path, f"-Wl,-rpath,{path.parent}")]
    include = ["-isystem", HEADERS, "-isystem", packages / "triton/backends/nvidia/include"]
    source = EXAMPLES / "11_cpp_host" / "host.cpp"
    assert shutil.which("g++")
    command = ["g++", "-std=c++17", "-O2", *include, source, "-o", target, *libraries, "-lcrypto"]
    subprocess.run(command, check=True)
