"""The bench as a whole: rows, verdicts, speed-ups, and bundles that are not sound."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bench_examples import example_report, measured_row
from wordless_bundle import write_wordless

from vla_edge.bench.backends.checkpoints import Search
from vla_edge.bench.backends.load import TORCH_NAMES
from vla_edge.bench.measure.agreement import find_frames
from vla_edge.bench.output.answer import headline
from vla_edge.bench.report.types import Report, Row
from vla_edge.bench.run import _default_backends, _Planned, has_failure, run_bench
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, encode
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import InputError

IMAGES = Path(__file__).parents[2] / "export" / "images"


@pytest.fixture
def row_with(options, planted, quiet) -> Callable[[str], Row]:
    """The engine's row of a run with a fault planted in its worker."""

    def run(fault: str) -> Row:
        report = run_bench(options(time_limit_s=10.0), quiet, worker=planted(fault))
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
    assert 0 < row.parity.max_abs < 1e-3
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
    assert (row.parity.finite, row.parity.max_abs) == (False, None)


def test_an_engine_that_returns_another_model_s_actions_is_wrong(row_with) -> None:
    row = row_with("other_model")
    assert row.status == "wrong"
    assert "m/s allowed" in row.reason


def test_an_engine_that_goes_wrong_while_it_is_timed_is_wrong(row_with) -> None:
    row = row_with("late")
    assert row.status == "wrong"
    assert row.parity.max_abs == pytest.approx(1.0, rel=1e-2)


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
        options(engines=bundle_of("pure", "none", "fp32").parent), quiet, worker=planted("crash")
    )
    assert [row.status for bundle in report.bundles for row in bundle.rows] == ["failed"] * len(
        report.bundles
    )


def test_what_was_measured_is_kept_after_each_row(options, quiet, bundle, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(bundle)
    kept: list[list[int]] = []

    def keep(report: Report) -> None:
        assert not report.complete
        assert report.bundles[-1].rows[-1].step.runs == 30
        kept.append([len(bundle.rows) for bundle in report.bundles])

    report = run_bench(options(engines=tmp_path), quiet, keep)
    assert report.complete
    assert kept == [[1], [1, 1]]


def test_without_its_checkpoint_pytorch_is_timed_with_random_weights_and_the_row_says_so(
    options, quiet, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = run_bench(options(backends=("torch-fp16",)), quiet)
    (row,) = report.bundles[0].rows
    assert (row.status, row.parity) == ("ok", None)
    assert row.step.runs == 30
    assert row.weights_origin.startswith("random: pure, ")
    assert any("pass --checkpoint best_simple_lstm_model.pth" in note for note in row.notes)


def test_an_architecture_that_nobody_knows_is_skipped_without_its_checkpoint(
    options, quiet, bundle, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    manifest = decode((copy / MANIFEST_NAME).read_bytes())
    other = msgspec.structs.replace(manifest, source=msgspec.structs.replace(manifest.source, parameters=7))
    (copy / MANIFEST_NAME).write_bytes(encode(other))
    report = run_bench(options(engines=copy, backends=("torch-fp32",)), quiet)
    (row,) = report.bundles[0].rows
    assert row.status == "skipped"
    assert "with 7 parameters is known. Pass the checkpoint: --checkpoint" in row.reason
    assert has_failure(report)  # nothing was measured


def test_an_engine_that_leaks_is_doubted(row_with) -> None:
    row = row_with("leak")
    assert [doubt.kind for doubt in row.doubts if doubt.kind == "leak"] == ["leak"]
    assert row.growth.host_anonymous_mib > 50


def test_an_engine_that_is_throttled_in_mid_run_is_doubted(row_with) -> None:
    row = row_with("throttled")
    (doubt,) = [doubt for doubt in row.doubts if doubt.kind == "drift"]
    assert "slower than the first" in doubt.text


def test_a_sound_engine_neither_leaks_nor_drifts_far(options, quiet) -> None:
    (row,) = run_bench(options(), quiet).bundles[0].rows
    assert "leak" not in [doubt.kind for doubt in row.doubts]
    assert abs(row.growth.host_anonymous_mib) < 16


def test_a_paced_loop_is_run_at_its_rate(options, quiet) -> None:
    (row,) = run_bench(options(rate_hz=20.0), quiet).bundles[0].rows
    assert (row.paced.rate_hz, row.paced.deadline_ms, row.paced.ticks) == (20.0, 50.0, 20)
    assert len(row.samples.paced_ms) == row.paced.latency.runs


def test_the_users_own_frames_are_compared_with_pytorch(options, quiet, checkpoint_of) -> None:
    images = find_frames(IMAGES)
    checkpoint = checkpoint_of("pure", "none")
    report = run_bench(
        options(images=images, backends=("torch-fp32", "onnxruntime")), quiet, checkpoints=(checkpoint,)
    )
    torch, engine = report.bundles[0].rows
    assert torch.agreement.max_abs == 0
    assert engine.agreement.frames == len(engine.agreement.errors) == len(images)
    assert 0 < engine.agreement.max_abs < 1e-3


def test_an_engine_that_is_right_but_on_the_users_own_frames_is_wrong(
    options, quiet, planted, checkpoint_of
) -> None:
    report = run_bench(
        options(images=find_frames(IMAGES), backends=("torch-fp32", "onnxruntime")),
        quiet,
        checkpoints=(checkpoint_of("pure", "none"),),
        worker=planted("far_frames"),
    )
    torch, engine = report.bundles[0].rows
    assert torch.status == "ok"
    assert (engine.status, engine.parity.max_abs < 1e-3, has_failure(report)) == ("wrong", True, True)
    assert re.fullmatch(
        r"action off by [0-9.]+ m/s, 0\.001 m/s allowed, at frame [1-5] of 5 of --images", engine.reason
    )
    assert "right within" not in headline(report)
    assert engine.speedup_over_torch_fp32 is None


def test_an_engine_whose_state_is_wrong_is_wrong(options, quiet, planted, checkpoint_of, tmp_path) -> None:
    settings = {"lstm": "carried"}
    exported = export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path, ("fp32",), settings=settings))
    asked = options(engines=exported[0].folder)
    (sound,) = run_bench(asked, quiet).bundles[0].rows
    assert sound.status == "ok"
    assert set(sound.parity.state) == {"h_out", "c_out"}
    (row,) = run_bench(asked, quiet, worker=planted("doubled_state")).bundles[0].rows
    assert (row.status, row.reason) == ("wrong", "carried state h_out off by 1 of its size, 0.001 allowed")


def test_frames_without_a_reference_say_so(options, quiet) -> None:
    (row,) = run_bench(options(images=find_frames(IMAGES)), quiet).bundles[0].rows
    assert row.agreement is None
    assert any("no row torch-fp32" in note for note in row.notes)


def test_a_profile_a_floor_and_predictions_stand_beside_the_figures(options, quiet) -> None:
    report = run_bench(options(quick=False), quiet)
    (row,) = report.bundles[0].rows
    assert {stage.stage for stage in row.profile.stages} >= {"vision", "text", "lstm", "head"}
    assert row.floor.times_floor == pytest.approx(row.step.p50_ms / row.floor.ms)
    assert report.rates.matmul_fp32_tflops > 0
    assert report.forecasts[0].bundle == report.bundles[0].name


def test_a_quick_run_leaves_out_what_takes_long(options, quiet) -> None:
    report = run_bench(options(), quiet)
    (row,) = report.bundles[0].rows
    assert (row.profile, row.floor, report.rates) == (None, None, None)


def test_what_preprocessing_takes_is_told_apart(options, quiet) -> None:
    (row,) = run_bench(options(), quiet).bundles[0].rows
    assert min(row.preprocess.p50_ms, row.act.p50_ms) > 0


def test_steps_are_told_apart_by_their_instruction(options, quiet) -> None:
    (row,) = run_bench(options(), quiet).bundles[0].rows
    assert sum(prompt.runs for prompt in row.prompts) == row.step.runs


@pytest.mark.parametrize(
    ("device", "quick", "left_out"),
    [
        ("cuda", False, {"torch-compile"}),
        ("cuda", True, {"torch-compile", "torch-compile-reduce-overhead"}),
        (
            "cpu",
            False,
            {"torch-tf32", "torch-fp16-graph", "torch-compile", "torch-compile-reduce-overhead"},
        ),
    ],
)
def test_what_runs_unasked_takes_no_minutes_to_compile(options, bundle, device, quick, left_out) -> None:
    item = _Planned(Bundle.open(bundle), Search(None))
    names = _default_backends(item, options(device=device, quick=quick))
    assert set(TORCH_NAMES) - set(names) == left_out
    assert "onnxruntime" in names


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
        ("standin:torch-fp16", "wrong", False),
        ("standin:tensorrt-fp16", "wrong", True),
        ("onnxruntime", "skipped", True),  # nothing was measured at all
    ],
)
def test_which_rows_make_the_command_fail(backend: str, status: str, fails: bool) -> None:
    report = example_report()
    row = measured_row(backend, (1.0, 2.0), status=status)
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    assert has_failure(msgspec.structs.replace(report, bundles=(bundle,), refused=())) == fails


def test_a_skipped_row_beside_a_measured_one_is_no_failure() -> None:
    report = example_report()
    rows = tuple(
        measured_row(name, (1.0, 2.0), status=status)
        for name, status in (("torch-fp32", "ok"), ("tensorrt", "skipped"))
    )
    bundle = msgspec.structs.replace(report.bundles[0], rows=rows)
    assert not has_failure(msgspec.structs.replace(report, bundles=(bundle,), refused=()))


def test_golden_samples_that_were_changed_are_refused_and_not_taken_for_an_engine_s_error(
    options, quiet, bundle, tmp_path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "policy"))
    golden = bytearray((copy / "golden.npz").read_bytes())
    golden[len(golden) // 2] ^= 1
    (copy / "golden.npz").write_bytes(golden)
    report = run_bench(options(engines=copy, backends=("onnxruntime",)), quiet)
    assert not report.bundles
    assert "golden.npz" in report.refused[0].reason
    assert has_failure(report)


def test_a_policy_without_text_and_with_names_and_units_of_its_own_is_timed(
    options, quiet, tmp_path: Path
) -> None:
    folder = write_wordless(tmp_path / "engines" / "wordless")
    report = run_bench(options(engines=folder), quiet)
    (row,) = report.bundles[0].rows
    assert (row.status, row.reason) == ("ok", "")
    assert (row.parity.unit, report.bundles[0].prompt_length) == ("m/s or rad/s", 0)
    assert row.parity.max_abs < 1e-4
