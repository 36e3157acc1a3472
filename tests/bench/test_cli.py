"""`vla-bench` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import psutil
import pytest
from bench_examples import example_report

from vla_edge.bench.cli import _partial_report
from vla_edge.bench.report.codec import decode
from vla_edge.bench.report.types import json_schema
from vla_edge.runtime.version import VERSION

IMAGES = Path(__file__).parents[2] / "export" / "images"
COMMAND = (sys.executable, "-m", "vla_edge.bench.cli")


def vla_bench(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def full_run(
    bundle: Path, checkpoint_of: Callable[..., Path], tmp_path_factory
) -> tuple[str, str, dict, int]:
    """PyTorch FP32, FP16 and ONNX Runtime on the tiny policy: stdout, stderr, JSON, exit code."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    done = vla_bench(
        *(bundle, "--checkpoint", checkpoint_of("pure", "none"), "--runs", 20, "--warmup", 2),
        *("--seconds", 1, "--out", path.parent, "--images", IMAGES),
    )
    return done.stdout, done.stderr, json.loads(path.read_text()), done.returncode


def rows_of(report: dict) -> dict[str, dict]:
    return {row["backend"]: row for row in report["bundles"][0]["rows"]}


def test_every_backend_has_a_row_in_the_table_and_in_the_report(full_run) -> None:
    table, _, report, code = full_run
    assert code == 0
    assert list(rows_of(report)) == ["torch-fp32", "torch-fp16", "onnxruntime"]
    for label in ("PyTorch FP32", "PyTorch FP16", "ONNX Runtime"):
        assert table.count(f"\n{label}") >= 3


def test_every_form_of_the_report_is_written(full_run) -> None:
    table, _, _, _ = full_run
    paths = [Path(line) for line in table.splitlines()[-4:]]
    assert [path.name for path in paths] == ["report.json", "report.csv", "report.md", "report.html"]
    assert "| PyTorch FP32" in paths[2].read_text()
    assert paths[3].read_text().startswith("<!doctype html>")


def test_the_reports_of_one_run_compare_as_equal(full_run) -> None:
    path = full_run[0].splitlines()[-4]
    assert vla_bench("compare", path, path).returncode == 0


def test_frames_that_are_not_there_are_wrong_use(bundle: Path, tmp_path: Path) -> None:
    done = vla_bench(bundle, "--images", tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} holds no images" in done.stderr


def test_the_report_of_a_run_fits_the_schema(full_run) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(full_run[2])


def test_pytorch_fp32_gives_the_golden_actions_again(full_run) -> None:
    assert rows_of(full_run[2])["torch-fp32"]["parity"]["max_abs"] < 1e-4


def test_pytorch_fp16_is_further_off_than_the_fp32_engine(full_run) -> None:
    errors = {name: row["parity"]["max_abs"] for name, row in rows_of(full_run[2]).items()}
    assert errors["torch-fp16"] is None or errors["torch-fp16"] > errors["onnxruntime"]


def test_speed_ups_are_ratios_of_medians(full_run) -> None:
    rows = rows_of(full_run[2])
    assert rows["torch-fp32"]["speedup_over_torch_fp32"] == 1.0
    ratio = rows["torch-fp32"]["step"]["p50_ms"] / rows["onnxruntime"]["step"]["p50_ms"]
    assert rows["onnxruntime"]["speedup_over_torch_fp32"] == pytest.approx(ratio)


def test_the_engine_s_process_is_smaller_than_pytorch_s(full_run) -> None:
    peaks = {name: row["memory"]["host_anonymous_peak_mib"] for name, row in rows_of(full_run[2]).items()}
    assert peaks["onnxruntime"] < peaks["torch-fp32"] / 2


def test_progress_and_notes_go_to_stderr(full_run) -> None:
    _, messages, _, _ = full_run
    assert "onnxruntime  p50" in messages
    assert "ms over 20 runs" in messages


def test_the_table_has_no_colour_in_a_pipe(full_run) -> None:
    assert "\x1b" not in full_run[0]


@pytest.mark.parametrize("command", [(), ("compare",), ("render",), ("summary",)])
def test_every_command_tells_its_version(command: tuple[str, ...]) -> None:
    done = vla_bench(*command, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert VERSION in done.stdout


@pytest.mark.parametrize("command", [(), ("compare",), ("render",), ("summary",)])
def test_no_line_of_a_help_is_cut_on_a_terminal_of_80_columns(command: tuple[str, ...]) -> None:
    shown = vla_bench(*command, "-h", env={**os.environ, "COLUMNS": "80"}).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert not re.search(r"(?<!-)\b\w+-$", shown, re.MULTILINE)  # no name is broken at its hyphen


def test_a_checkpoint_in_a_bundle_s_place_is_told_from_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "x.pth").touch()
    done = vla_bench(tmp_path / "x.pth")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'x.pth'} is a checkpoint;")


def test_a_refused_bundle_s_folder_is_named_as_it_was_given(tmp_path: Path) -> None:
    torn = tmp_path / "k" / "torn"
    torn.mkdir(parents=True)
    (torn / "manifest.json").write_text("{")
    done = vla_bench(tmp_path / "k", "--quick", "--device", "cpu", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert f"again: vla-bench {tmp_path / 'k'} --device cpu" in done.stdout
    for name in ("report.md", "report.html"):  # these may be passed on
        text = (tmp_path / "out" / name).read_text()
        assert "vla-bench k --device cpu" in text


def test_no_bundles_is_wrong_use_and_says_how_to_make_one(tmp_path: Path) -> None:
    done = vla_bench(tmp_path / "engines")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: there is no folder {tmp_path / 'engines'} with bundles.\nMake one with: vla-export"
    )


def test_an_unwritable_report_is_refused_before_anything_runs(bundle: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    done = vla_bench(bundle, "--json", tmp_path / "missing" / "report.json")
    assert (done.returncode, time.monotonic() - start < 10) == (2, True)
    assert "no writable folder" in done.stderr


def test_an_unknown_backend_lists_the_known_ones(bundle: Path) -> None:
    done = vla_bench(bundle, "--backends", "openvino")
    assert done.returncode == 2
    assert "torch-fp32" in done.stderr
    assert "tensorrt-rtx" in done.stderr


def test_help_has_examples_and_needs_neither_torch_nor_an_engine() -> None:
    code = (
        "import sys; from vla_edge.bench.cli import command; command(['--help'], standalone_mode=False); "
        "print({'torch', 'onnxruntime', 'onnx', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Examples:" in done.stdout
    assert done.stdout.rstrip().endswith("set()")


@pytest.fixture
def long_run(bundle: Path, tmp_path: Path):
    """A bench that is in the middle of measuring, its worker, and the folder of its report."""
    arguments = (bundle, "--backends", "onnxruntime", "--seconds", "60", "--runs", "100000")
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--json", tmp_path / "report.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not (workers := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield process, workers[0], tmp_path
    process.kill()
    process.communicate()


def wait_for_end(worker: psutil.Process) -> None:
    psutil.wait_procs([worker], timeout=10)


def test_ctrl_c_kills_the_worker_and_leaves_no_report(long_run) -> None:
    process, worker, folder = long_run
    os.kill(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    wait_for_end(worker)
    assert process.returncode == 130
    assert messages.strip().endswith("interrupted")
    assert not worker.is_running()
    assert list(folder.iterdir()) == []


def test_an_end_in_the_middle_leaves_what_was_measured_and_the_older_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.json"
    target.write_text("an older report")
    unfinished = msgspec.structs.replace(example_report(), complete=False)

    def interrupted() -> None:
        with _partial_report(target) as keep:
            keep(unfinished)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    partial = tmp_path / "report.partial.json"
    assert capsys.readouterr().err == f"what was measured so far: {partial}\n"
    assert decode(partial.read_bytes(), "partial") == unfinished
    assert target.read_text() == "an older report"


def test_a_partial_report_goes_when_the_whole_one_is_there(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with _partial_report(target) as keep:
        keep(example_report())
        assert [path.name for path in tmp_path.iterdir()] == ["report.partial.json"]
        target.touch()
    assert list(tmp_path.iterdir()) == [target]


def test_without_a_file_to_write_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with _partial_report(None) as keep:
        keep(example_report())
    assert list(tmp_path.iterdir()) == []


def test_a_worker_ends_when_the_bench_is_killed(long_run) -> None:
    process, worker, _ = long_run
    process.kill()
    process.wait()
    wait_for_end(worker)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
