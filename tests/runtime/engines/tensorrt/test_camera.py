"""A plan that takes a camera's frames: bytes in page-locked memory, which a driver can write itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from part_plans import fake_engines, make_parts_plan, tensor
from plan_bundles import make_plan
from tiny_bundle import Tiny, write_bundle

from vla_edge.runtime import Policy
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError

CAMERA = (9, 11, "bgr")  # 297 bytes: nothing that an alignment would divide


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Bundle, FakeDevice, FakeTensorRt]:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny", Tiny(camera=CAMERA)))
    make_plan(bundle)
    device = FakeDevice([])
    return bundle, device, FakeTensorRt(device, bundle.manifest)


def opened(bundle: Bundle, device: FakeDevice, trt: FakeTensorRt) -> TensorRtSession:
    return TensorRtSession(bundle, TensorRtOptions(), library=fake_library(trt, "tensorrt"), device=device)  # type: ignore[arg-type]


def test_the_engine_gets_the_bytes_that_lie_in_its_own_page_locked_input(parts: Any) -> None:
    bundle, *_ = parts
    with Policy(bundle, opened(*parts)) as policy:
        assert policy.frame is policy.session.inputs["frame"]
        assert (policy.frame.dtype, policy.frame.shape) == (np.uint8, (1, 9, 11, 3))
        others = sum(float(array.sum()) for name, array in policy.session.inputs.items() if name != "frame")
        frame = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        first = policy.act(frame).raw[0]
        policy.frame.fill(1)
        second = policy.act(policy.frame).raw[0]
        assert first - second == frame.sum() - 9 * 11 * 3
        assert others == 0


def test_a_plan_that_takes_something_else_for_the_frame_is_refused(parts: Any) -> None:
    bundle, device, trt = parts
    trt.engine.inputs[0] = TensorSpec(name="frame", dtype="float32", shape=(1, 9, 11, 3))
    with pytest.raises(EngineError, match=r"frame is input float32\[1, 9, 11, 3\].*says input uint8"):
        opened(bundle, device, trt)


def test_a_camera_in_a_part_of_its_own_gets_the_bytes_by_one_copy_and_hands_on_pixels(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny", Tiny(camera=CAMERA)))
    frame, *others = bundle.manifest.inputs
    chain = (
        ChainPart("camera", (frame,), (tensor("pixel_values", 1, 3, 16, 16),)),
        ChainPart("actions", (tensor("pixel_values", 1, 3, 16, 16), *others), bundle.manifest.outputs),
    )
    make_parts_plan(bundle, chain)
    device = FakeDevice([])
    trt = FakeTensorRt(device, bundle.manifest)
    trt.engine = None
    fake_engines(trt, device, chain)
    with opened(bundle, device, trt) as session:
        assert session.inputs["frame"].dtype == np.uint8
        assert device.log.count("capture copy in") == 1  # what a call replays
        session.run()
        sizes = session.device_memory_bytes()
        assert sizes["io"] >= 9 * 11 * 3 + 3 * 16 * 16 * 4


def test_a_part_that_takes_the_frame_as_floats_makes_no_engine(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "tiny", Tiny(camera=CAMERA)))
    _, *others = bundle.manifest.inputs
    chain = (ChainPart("whole", (tensor("frame", 1, 9, 11, 3), *others), bundle.manifest.outputs),)
    make_parts_plan(bundle, chain)
    device = FakeDevice([])
    with pytest.raises(EngineError, match=r"needs frame float32.*which was made as uint8\[1, 9, 11, 3\]"):
        opened(bundle, device, FakeTensorRt(device, bundle.manifest))
