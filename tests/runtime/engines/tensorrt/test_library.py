"""TensorRT's Python module: which is taken, which refused, and what it tells."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vla_edge.runtime.engines.tensorrt.library import Library, check_version, load_library
from vla_edge.runtime.errors import EngineError


@pytest.mark.parametrize("version", ["8.6.1", "8.5.2.2", "9.3.0"])
def test_tensorrt_before_10_is_refused_with_the_way_out(version: str) -> None:
    with pytest.raises(EngineError, match=f"TensorRT {version} is too old") as caught:
        check_version(Library("tensorrt", None, version))
    assert "JetPack 6.1 or later" in caught.value.hint


def test_rtx_counts_its_versions_from_one() -> None:
    check_version(Library("tensorrt-rtx", None, "1.2.0"))


def test_a_tensorrt_without_its_bindings_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("import tensorrt_bindings_that_are_gone")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        EngineError, match="TensorRT cannot be loaded: No module named 'tensorrt_bindings_that"
    ) as caught:
        load_library("tensorrt")
    assert "JetPack 6.1 or later" in caught.value.hint


def test_a_folder_that_is_merely_named_tensorrt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ModuleType("tensorrt")
    folder.__path__ = ["/home/robot/tensorrt"]
    monkeypatch.setitem(sys.modules, "tensorrt", folder)
    with pytest.raises(
        EngineError, match="TensorRT cannot be loaded: /home/robot/tensorrt holds something else"
    ):
        load_library("tensorrt")


def test_tensorrt_logs_to_python(caplog: pytest.LogCaptureFixture) -> None:
    library = load_library("tensorrt-rtx")
    severity = library.trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG, "vla_edge.tensorrt"):
        library.logger.log(severity.ERROR, "an error")
        library.logger.log(severity.WARNING, "a warning")
        library.logger.log(severity.VERBOSE, "a detail")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "an error"),
        ("WARNING", "a warning"),
    ]
    assert library.logger is load_library("tensorrt-rtx").logger


def test_the_error_recorder_keeps_what_it_is_told() -> None:
    recorder = load_library("tensorrt-rtx").error_recorder()
    for at in range(40):
        recorder.report_error(at, f"error {at}")
    assert recorder.num_errors() == 32
    assert recorder.has_overflowed()
    assert (recorder.get_error_code(1), recorder.get_error_desc(1)) == (1, "error 1")
    assert recorder.text().startswith("error 0; error 1")
    recorder.clear()
    assert recorder.text() == ""
    assert not recorder.has_overflowed()


def test_the_real_runtime_reports_through_the_recorder() -> None:
    library = load_library("tensorrt-rtx")
    recorder, runtime = library.error_recorder(), library.trt.Runtime(library.logger)
    runtime.error_recorder = recorder
    assert runtime.deserialize_cuda_engine(b"not a plan" * 10) is None
    assert "magicTag" in recorder.text()
