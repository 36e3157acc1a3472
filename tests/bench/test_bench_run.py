"""The bench as a whole: rows, verdicts, speed-ups, and bundles that are not sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bench_examples import example_report, measured_row

from vla_edge.bench.report import Row
from vla_edge.bench.run import has_failure, run_bench
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.manifest import MANIFEST_NAME, decode, encode


@pytest.fixture
def row_with(options, planted, quiet) -> Callable[[str], Row]:
    """The engine's row of a run with a fault planted in its worker."""

    def run(fault: str) -> Row:
        report = run_bench(options(worker=planted(fault), time_limit_s=10.0), quiet)
        (row,) = report.bundles[0].rows
        assert has_failure(report) == (row.status != "ok")
        return row

    return run


def test_a_sound_engine_is_ok(options, quiet) -> None:
    report = run_bench(options(), quiet)
    (row,) = report.bundles[0].rows
    assert (row.status, row.reason, has_failure(report)) == ("ok", "", False)
    assert row.step.runs == len(row.samples.step_ms) == 30
    assert row.act.p50_ms > 0
    assert 0 < row.parity.max_abs_mps < 1e-3
    assert row.weights_origin.startswith("sample: ")
    assert row.cold_start.total_s == pytest.approx(
        row.cold_start.interpreter_s
        + row.cold_start.import_s
        + row.cold_start.load_s
        + row.cold_start.first_call_s
    )


def test_an_engine_that_returns_nan_is_wrong(row_with) -> None:
    row = row_with("nan")
    assert (row.status, row.reason) == ("wrong", "actions are NaN or infinite")
    assert (row.parity.finite, row.parity.max_abs_mps) == (False, None)


def test_an_engine_that_returns_another_model_s_actions_is_wrong(row_with) -> None:
    row = row_with("other_model")
    assert row.status == "wrong"
    assert "exceeds the manifest's gate max_abs_mps <=" in row.reason


def test_an_engine_that_goes_wrong_while_it_is_timed_is_wrong(row_with) -> None:
    row = row_with("late")
    assert row.status == "wrong"
    assert row.parity.max_abs_mps == pytest.approx(1.0, rel=1e-2)


def test_an_engine_that_crashes_is_a_failed_row_with_the_memory_until_then(row_with) -> None:
    row = row_with("crash")
    assert row.status == "failed"
    assert "exit code 3" in row.reason
    assert row.memory.host_peak_mib > 10
    assert row.step is None


def test_a_slow_engine_is_seen_to_be_slow(row_with) -> None:
    row = row_with("slow")
    assert row.status == "ok"
    assert row.step.p50_ms > 4


def test_one_bad_backend_does_not_end_the_run(options, planted, quiet, bundle_of) -> None:
    report = run_bench(
        options(engines=bundle_of("pure", "none", "fp32").parent, worker=planted("crash")), quiet
    )
    assert [row.status for bundle in report.bundles for row in bundle.rows] == ["failed"] * len(
        report.bundles
    )


def test_pytorch_rows_are_skipped_with_the_reason_when_the_checkpoint_is_missing(
    options, quiet, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = run_bench(options(backends=("torch-fp32", "torch-fp16")), quiet)
    rows = report.bundles[0].rows
    assert [(row.backend, row.status) for row in rows] == [
        ("torch-fp32", "skipped"),
        ("torch-fp16", "skipped"),
    ]
    assert all(
        row.reason == "checkpoint not found: pass --checkpoint best_simple_lstm_model.pth" for row in rows
    )
    assert not has_failure(report)


def test_a_plan_on_a_cpu_run_is_skipped_in_sight(options, quiet, bundle, tmp_path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    (copy / "plans").mkdir()
    (copy / "plans" / "tensorrt-rtx-1.2.0-sm89.plan").touch()
    report = run_bench(options(engines=copy, backends=("tensorrt", "tensorrt-rtx")), quiet)
    missing, unfit = report.bundles[0].rows
    assert (missing.status, unfit.status) == ("skipped", "skipped")
    assert missing.reason == f"the bundle has no plan for it: vla-build {copy} --backend tensorrt"
    assert unfit.reason == "a TensorRT plan needs --device cuda"


def test_a_damaged_bundle_is_refused_and_the_others_are_measured(options, quiet, bundle, tmp_path) -> None:
    shutil.copytree(bundle, tmp_path / "good")
    torn = Path(shutil.copytree(bundle, tmp_path / "torn"))
    with (torn / "model.onnx.data").open("r+b") as file:
        file.truncate(100)
    report = run_bench(options(engines=tmp_path), quiet)
    assert [Path(item.path).name for item in report.bundles] == ["good"]
    assert "truncated" in report.refused[0].reason
    assert has_failure(report)


def test_changed_weights_of_the_right_size_fail_when_the_engine_loads_them(
    options, quiet, bundle, tmp_path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    with (copy / "model.onnx.data").open("r+b") as file:
        file.write(b"\xff" * 64)
    (row,) = run_bench(options(engines=copy), quiet).bundles[0].rows
    assert row.status == "failed"
    assert "SHA-256" in row.reason


def test_a_bundle_without_a_gate_for_its_action_says_so(options, quiet, bundle, tmp_path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    manifest = decode((copy / MANIFEST_NAME).read_bytes())
    ungated = msgspec.structs.replace(manifest, parity=msgspec.structs.replace(manifest.parity, gates=()))
    (copy / MANIFEST_NAME).write_bytes(encode(ungated))
    (row,) = run_bench(options(engines=copy), quiet).bundles[0].rows
    assert "the manifest has no gate for the action: only checked to be finite" in row.notes


def test_an_empty_folder_says_which_command_makes_a_bundle(options, quiet, tmp_path) -> None:
    with pytest.raises(InputError, match=r"no bundle found in .*\nMake one with: vla-export --ckpt"):
        run_bench(options(engines=tmp_path), quiet)


@pytest.mark.parametrize(
    ("backend", "status", "fails"),
    [
        ("torch-fp16", "wrong", False),
        ("torch-fp32", "wrong", True),
        ("onnxruntime", "wrong", True),
        ("onnxruntime", "failed", True),
        ("torch-fp16", "failed", True),
        ("onnxruntime", "skipped", False),
    ],
)
def test_which_rows_make_the_command_fail(backend: str, status: str, fails: bool) -> None:
    report = example_report()
    row = measured_row(backend, (1.0, 2.0), status=status)
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    assert has_failure(msgspec.structs.replace(report, bundles=(bundle,), refused=())) == fails
