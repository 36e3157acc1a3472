"""A bundle with a camera: engines are timed from the frame as it is, PyTorch from what Pillow makes of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vla_edge.bench.backends.load import PREPARED
from vla_edge.bench.compare.differences import workload_of
from vla_edge.bench.measure.agreement import find_frames
from vla_edge.bench.options.options import Options
from vla_edge.bench.output.facts import bundle_line
from vla_edge.bench.output.tables.sections import bundle_grids
from vla_edge.bench.progress import ConsoleProgress
from vla_edge.bench.proof import soak as soaking
from vla_edge.bench.proof.precision import compare_precision
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.report.types import Report
from vla_edge.bench.run import run_bench
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.manifest import Camera

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[..., Path]) -> Path:
    camera = Camera(height=HEIGHT, width=WIDTH, channels="bgr")
    options = ExportOptions(
        checkpoint_of("pure", "none"), tmp_path_factory.mktemp("seeing"), ("fp32",), camera=camera
    )
    return export_bundle(options)[0].folder


@pytest.fixture(scope="module")
def report(
    seeing: Path, tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[..., Path]
) -> Report:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for at in range(2):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{at}.png")
    asked = Options(
        engines=str(seeing),
        images=tuple(map(str, find_frames(folder))),
        backends=("torch-fp32", "onnxruntime"),
        device="cpu",
        threads=1,
        runs=20,
        warmup=3,
        rate_hz=None,
    )
    return run_bench(
        asked, ConsoleProgress(Console(file=io.StringIO())), checkpoints=(checkpoint_of("pure", "none"),)
    )


def test_both_answer_and_only_the_engine_s_time_has_the_resize_in_it(report: Report) -> None:
    torch, engine = report.bundles[0].rows
    assert (torch.status, engine.status) == ("ok", "ok")
    assert max(torch.parity.max_abs, engine.parity.max_abs) < 1e-3
    assert PREPARED in torch.notes
    assert PREPARED not in engine.notes
    assert engine.agreement.frames == 2
    assert engine.agreement.max_abs < 1e-3  # BGR from the same files
    assert engine.act.p50_ms > 0
    assert engine.preprocess.p50_ms < engine.act.p50_ms
    assert "camera" in [stage.stage for stage in engine.profile.stages]


def test_the_report_names_the_input(report: Report) -> None:
    (bundle,) = report.bundles
    assert (bundle.frame, bundle.camera) == ((HEIGHT, WIDTH), "bgr")
    assert f"frames of {HEIGHT}x{WIDTH} BGR as they are" in bundle_line(bundle)
    captions = [grid.caption for grid in bundle_grids(bundle)]
    assert captions[0] == "One policy step on a frame as it is, of PyTorch on pixels that are prepared, ms"
    assert any(caption.startswith(f"Policy.act from a {WIDTH}x{HEIGHT} frame") for caption in captions)
    assert decode(encode(report), "report.json") == report


def test_steps_from_frames_are_compared_with_steps_from_frames_of_that_size_alone(report: Report) -> None:
    (bundle,) = report.bundles
    prepared, larger = (
        msgspec.structs.replace(bundle, **changes)
        for changes in ({"camera": None}, {"frame": (2 * HEIGHT, 2 * WIDTH)})
    )
    assert len({workload_of(each) for each in (bundle, prepared, larger)}) == 3
    assert workload_of(prepared) == bundle.name


def test_a_report_from_before_has_no_camera(report: Report) -> None:
    (bundle,) = report.bundles
    plain = msgspec.to_builtins(bundle)
    del plain["camera"]
    before = msgspec.convert(plain, type(bundle), strict=False)
    assert before.camera is None
    assert "as they are" not in bundle_line(before)


def test_proofs_take_it_too(
    seeing: Path, checkpoint_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soaking, "TIMED_CALLS", 4)
    found = soaking.soak(seeing, "onnxruntime", 6)
    assert found.differing == 0
    assert found.act_in_place.runs == 4
    stages = compare_precision(checkpoint_of("pure", "none"), seeing, samples=1).stages
    assert [row.stage for row in stages] == ["vision", "text", "action"]
