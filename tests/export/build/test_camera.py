"""TensorRT's own builder takes a graph that begins with a camera's frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_layouts import LAYOUTS
from plan_builds import ADA

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import measure_stages
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime import Policy
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Camera

# In turn, so that each layout has another camera: larger than the target of 28 x 28, smaller, odd, upright.
CAMERAS = [(72, 128), (480, 641), (17, 23), (131, 61), (28, 90), (28, 28)]


@pytest.mark.parametrize(("at", "kind"), list(enumerate(LAYOUTS)))
def test_every_layout_builds_behind_a_camera(
    checkpoint_of: Callable[..., Path], tmp_path: Path, at: int, kind: tuple[str, str]
) -> None:
    height, width = CAMERAS[at]
    camera = Camera(height=height, width=width, channels="bgr" if at % 2 else "rgb")
    options = ExportOptions(checkpoint_of(*kind), tmp_path, camera=camera)
    contents = build_plan(Bundle.open(export_bundle(options)[0].folder), ADA).record.contents
    assert contents.source == "plan"
    assert contents.dtypes["uint8"] == 1


@pytest.mark.gpu
@pytest.mark.parametrize("at", [0, 1, 2])
def test_on_a_gpu_the_camera_makes_what_pillow_makes_and_its_memory_is_the_drivers(
    checkpoint_of: Callable[..., Path], tmp_path: Path, at: int
) -> None:
    height, width = CAMERAS[at]
    camera = Camera(height=height, width=width, channels="bgr" if at % 2 else "rgb")
    options = ExportOptions(checkpoint_of(), tmp_path, camera=camera)
    bundle = Bundle.open(export_bundle(options)[0].folder)
    assert build_plan(bundle).record.verification.passed
    assert measure_stages(bundle, BuildOptions(), Silent())["camera"].relative_l2 < 1e-5
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with Policy.load(bundle.folder, "tensorrt") as policy, Policy.load(bundle.folder, "onnxruntime") as other:
        policy.warmup()
        copied = policy.act(frame).raw
        policy.frame.fill(0)
        policy.frame[0] = frame
        assert policy.act(policy.frame).raw == copied
        assert copied == pytest.approx(other.act(frame).raw, abs=0.02)
