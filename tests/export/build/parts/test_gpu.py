"""Plans in parts on a GPU with TensorRT: they compute what the whole does, and are shared, measured and timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import measure_stages
from vla_edge.export.build.verify import sample_inputs
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import Camera
from vla_edge.runtime.engines.tensorrt.record import PlanRecord
from vla_edge.runtime.engines.tensorrt.session import TensorRtSession

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def bundles(bundle_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One hybrid under three names; the first two are built, whole and in parts. Do not write to them."""
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("parts-on-gpu")
    source = bundle_of("hybrid-a", "transformers", "fp16")
    found = {}
    for name in ("whole", "parts", "shared"):
        shutil.copytree(source, root / name)
        found[name] = Bundle.open(root / name)
    build_plan(found["whole"], BuildOptions(parts=1))
    return found


@pytest.fixture(scope="module")
def record(bundles: dict[str, Bundle]) -> PlanRecord:
    return build_plan(bundles["parts"], BuildOptions(parts=4)).record


def actions(bundle: Bundle, of: Bundle | None = None) -> np.ndarray:
    """What a bundle's plan answers to its golden samples, or to those of another bundle."""
    golden = load_golden(of or bundle)
    found = []
    with TensorRtSession(bundle) as session:
        for at in range(len(golden["names"])):
            for name, value in sample_inputs(bundle.manifest, golden, at).items():
                session.inputs[name][...] = value
            session.run()
            found.append(session.outputs[bundle.manifest.actions.name].copy())
    return np.stack(found)


def test_each_part_was_measured_and_described(record: PlanRecord) -> None:
    assert len(record.parts) == 4
    assert record.verification.passed
    for part in record.parts:
        build = part.build
        assert part.contents.source == "engine"
        assert build.peak_gpu_mib
        assert build.peak_host_mib > 100
        assert build.peak_mib is not None
        assert max(build.peak_gpu_mib, build.peak_host_mib) <= build.peak_mib
        assert build.peak_mib <= build.peak_gpu_mib + build.peak_host_mib + 1


def test_parts_that_can_run_side_by_side_were_timed(record: PlanRecord) -> None:
    assert record.streams is not None
    faster = record.streams.side_by_side_ms < record.streams.in_line_ms
    assert any(part.stream for part in record.parts) == faster


def test_parts_answer_as_the_whole_does(bundles: dict[str, Bundle], record: PlanRecord) -> None:
    whole, parts = actions(bundles["whole"]), actions(bundles["parts"])
    assert np.abs(whole - parts).max() <= 0.02 * max(1.0, np.abs(whole).max())
    assert verify_existing(bundles["parts"]).record.verification.passed


def test_another_bundle_takes_every_part(bundles: dict[str, Bundle], record: PlanRecord) -> None:
    shared = build_plan(bundles["shared"]).record
    assert [part.sha256 for part in shared.parts] == [part.sha256 for part in record.parts]
    assert all(part.build.found_in for part in shared.parts)
    assert np.array_equal(actions(bundles["shared"]), actions(bundles["parts"]))


def test_stages_are_measured_in_parts_too(bundles: dict[str, Bundle]) -> None:
    errors = measure_stages(bundles["shared"], BuildOptions(parts=3), Silent())
    assert list(errors) == [stage.name for stage in bundles["shared"].manifest.stages]
    assert all(error.relative_l2 < 0.02 for error in errors.values())


def test_a_camera_s_part_is_put_before_another_bundle_s_whole(
    bundles: dict[str, Bundle], checkpoint_of: Callable[..., Path]
) -> None:
    camera = Camera(height=72, width=128, channels="bgr")
    folder = bundles["whole"].folder.parent
    options = ExportOptions(
        checkpoint_of("hybrid-a", "transformers"), folder, ("fp16",), camera=camera, name="seeing"
    )
    seeing = Bundle.open(export_bundle(options)[0].folder)
    record = build_plan(seeing, BuildOptions(parts=1)).record
    assert [part.name for part in record.parts] == ["camera", "actions"]
    assert record.verification.passed  # its own golden frames, through both
    assert record.parts[1].build.found_in == bundles["whole"].manifest.name
    whole = build_plan(bundles["whole"], BuildOptions(parts=1))
    assert not whole.fresh
    assert record.parts[1].sha256 == whole.record.parts[0].sha256
    # The pixels that Pillow made of the frames. Those of the whole's own samples were never resized to the camera.
    pixels = actions(bundles["whole"], of=seeing)
    assert (
        np.abs(actions(seeing) - pixels).max() < 1e-4
    )  # at most a value on the border of two of half precision
    assert np.abs(pixels - actions(bundles["whole"])).max() > 1e-3  # which other pixels would not have passed
