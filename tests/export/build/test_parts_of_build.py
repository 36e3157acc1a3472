"""Parts of the builder that need no builder: judging samples, counting layers, the timing cache, the library's API."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trt_fakes import FakeDevice
from trt_support import SAMPLES, WIDTH, small_bundle, tiny_manifest, write_bundle

from vla_edge.export.build.contents import engine_contents, network_contents, plan_contents
from vla_edge.export.build.memory import PeakMemory
from vla_edge.export.build.network import mark_outputs, network_tensors, parse
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import tapped_engine
from vla_edge.export.build.target import Target, open_target
from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.export.build.verify import judge, run_samples, sample_inputs
from vla_edge.runtime.bundle.bundle import load_golden
from vla_edge.runtime.engines.tensorrt.library import Library, check_version, load_library
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.errors import EngineError, InputError, ResourceError
from vla_edge.runtime.files.cache_file import CacheFile

MANIFEST = tiny_manifest([])


class Samples:
    """An engine that gives the golden actions plus an error."""

    def __init__(self, error: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        self.golden: dict[str, np.ndarray] = {"names": np.array([f"s{at}" for at in range(SAMPLES)])}
        for spec in MANIFEST.inputs:
            self.golden[spec.name] = rng.integers(0, 9, (SAMPLES, *spec.shape[1:])).astype(spec.dtype)
        self.golden["actions"] = rng.uniform(0.5, 1, (SAMPLES, 1, 2)).astype(np.float32)
        self.golden["stage_text"] = rng.uniform(0.5, 1, (SAMPLES, WIDTH)).astype(np.float32)
        self.inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in MANIFEST.inputs}
        self.outputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in MANIFEST.outputs}
        self.error = error
        self.fed: list[int] = []

    def run(self) -> None:
        at = len(self.fed)
        self.fed.append(int(self.inputs["input_ids"].sum()))
        self.outputs["actions"][...] = self.golden["actions"][at] + self.error
        if "text" in self.outputs:
            self.outputs["text"][...] = self.golden["stage_text"][at]

    def verification(self) -> Any:
        measures = run_samples(self.inputs, self.outputs, self.run, self.golden, MANIFEST, Silent())
        return judge(MANIFEST.parity.gates, self.golden["names"].tolist(), measures, "an engine", "m/s")


def test_exact_actions_pass_and_every_sample_is_fed() -> None:
    samples = Samples()
    result = samples.verification()
    assert result.passed
    assert samples.fed == [int(row.sum()) for row in samples.golden["input_ids"]]
    assert [sample.name for sample in result.samples] == [f"s{at}" for at in range(SAMPLES)]
    assert result.note == f"action 0 m/s, gate 0.02 m/s ({SAMPLES} samples)."


def test_errors_are_in_metres_per_second_after_the_scale() -> None:
    result = Samples(error=0.009).verification()  # scale 2: 0.018 m/s, gate 0.02
    assert result.passed
    assert result.samples[0].max_abs == pytest.approx(0.018, abs=1e-5)
    result = Samples(error=0.011).verification()
    assert not result.passed
    assert "action 0.022 m/s, gate 0.02 m/s" in result.note


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_nan_misses_every_gate(error: float) -> None:
    result = Samples(error=error).verification()
    assert not result.passed
    assert result.samples[0].max_abs is None
    assert "NaN or infinite" in result.note


def test_a_visible_stage_is_held_against_its_gate() -> None:
    samples = Samples()
    samples.outputs["text"] = np.zeros((1, WIDTH), np.float32)
    result = samples.verification()
    assert [(check.stage, check.passed) for check in result.checks] == [("text", True), ("action", True)]


def test_without_a_gate_for_the_action_nothing_passes() -> None:
    samples = Samples()
    measures = run_samples(samples.inputs, samples.outputs, samples.run, samples.golden, MANIFEST, Silent())
    result = judge([], samples.golden["names"].tolist(), measures, "", "m/s")
    assert not result.passed
    assert "no gate for the action" in result.note


def test_carried_state_has_its_batch_in_the_second_place() -> None:
    inputs = [
        {"name": "h_in", "dtype": "float32", "shape": [4, 2, 8], "role": "state"},
        {"name": "x", "dtype": "float32", "shape": [2, 3], "role": "other"},
    ]
    outputs = [{"name": "h_out", "dtype": "float32", "shape": [4, 2, 8], "role": "state"}]
    manifest = tiny_manifest(
        [], inputs=inputs, outputs=outputs, runtime={"frame": "current", "state": [["h_in", "h_out"]]}
    )
    golden = {"h_in": np.arange(32, dtype=np.float32).reshape(1, 4, 8), "x": np.ones((1, 3), np.float32)}
    fed = sample_inputs(manifest, golden, 0)
    assert fed["h_in"].shape == (4, 2, 8)
    assert np.array_equal(fed["h_in"][:, 1], golden["h_in"][0])
    assert fed["x"].shape == (2, 3)


def test_the_inspectors_json_is_counted() -> None:
    layers = [
        {"Name": "a", "LayerType": "gemm", "Outputs": [{"Name": "x", "Format/Datatype": "Half"}]},
        {
            "Name": "b",
            "LayerType": "gemm",
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
        },
        {
            "Name": "c",
            "LayerType": "kgen",
            "Outputs": [{"Name": "z", "Format/Datatype": "Float"}, {"Name": "w"}],
        },
        {"Name": "d", "LayerType": "Reformat", "Outputs": [{"Name": "v", "Format/Datatype": "Int32"}]},
    ]
    contents = engine_contents(json.dumps({"Layers": layers}))
    assert contents is not None
    assert contents.layers == {"gemm": 2, "Reformat": 1, "kgen": 1}
    assert contents.dtypes == {"float16": 2, "float32": 1, "int32": 1, "unknown": 1}


@pytest.mark.parametrize("text", ["{}", '{"Layers": []}', '{"Layers": ["only a name"]}'])
def test_an_engine_without_detail_counts_nothing(text: str) -> None:
    assert engine_contents(text) is None


def test_a_plan_without_the_known_text_counts_nothing() -> None:
    assert plan_contents("tensorrt-rtx", b"vtrt and then something else") is None
    assert plan_contents("tensorrt", b"ftrt") is None


def test_the_parsed_network_has_the_dtypes_of_the_graph(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    library = load_library("tensorrt-rtx")
    builder = library.trt.Builder(library.logger)
    network = builder.create_network(0)
    parser = parse(library, network, bundle.model_path)
    contents = network_contents(network)
    mark_outputs(network, ["text", "actions"])
    assert {network.get_output(at).name for at in range(network.num_outputs)} == {"actions", "text"}
    with pytest.raises(InputError, match="no tensor nowhere"):
        mark_outputs(network, ["nowhere"])
    del parser
    assert contents.layers["matrix_multiply"] == 5
    assert contents.layers["normalization"] == 1
    assert set(contents.dtypes) >= {"float16", "float32"}
    with open_target("tensorrt-rtx", 0, "cuda-bindings", 89) as target:
        assert {"attended", "text", "vision", "actions"} <= network_tensors(target, bundle.model_path)
    assert len(load_golden(bundle)["names"]) == SAMPLES


# --- the timing cache: TensorRT-RTX has none, so its configuration is faked


MADE_BY = "tensorrt 10.6.0"


class FakeConfig:
    """`IBuilderConfig` as far as caches go; `known` is the only data that it accepts."""

    def __init__(self, known: bytes = b"times") -> None:
        self.known = known
        self.cache: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(
            data=data, serialize=lambda: b"times", combine=lambda other, mismatch: other.data == self.known
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.data not in (b"", self.known):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


def test_a_timing_cache_is_new_then_reused(tmp_path: Path) -> None:
    path = tmp_path / "plans" / "a.timing"
    for state in ("new", "reused"):
        cache = TimingCache(path, MADE_BY)
        cache.attach(FakeConfig())
        assert cache.state == state
        cache.save()
        assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"
    assert list(path.parent.iterdir()) == [path]


def test_a_timing_cache_of_another_gpu_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.timing"
    CacheFile(path, "timing cache", MADE_BY).write(b"another GPU's")
    cache = TimingCache(path, MADE_BY)
    cache.attach(FakeConfig())
    assert cache.state == "new"
    with caplog.at_level(logging.INFO, "vla_edge"):
        cache.save()
    assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"
    assert "written anew" in caplog.text


@pytest.mark.parametrize("content", [b"times", b"vla-edge cache 1, tensorrt 10.6.0, 00\ntimes", b""])
def test_a_timing_cache_that_was_not_written_here_never_reaches_tensorrt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "a.timing"
    path.write_bytes(content)
    config, given = FakeConfig(), []
    create = config.create_timing_cache
    config.create_timing_cache = lambda data: given.append(data) or create(data)  # type: ignore[method-assign]
    cache = TimingCache(path, MADE_BY)
    cache.attach(config)
    cache.save()
    assert set(given) == {b""}
    assert cache.state == "new"
    assert f"the timing cache {path} is damaged, or not of {MADE_BY}" in caplog.text
    assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"


def test_no_timing_cache_touches_nothing(tmp_path: Path) -> None:
    cache = TimingCache(None, MADE_BY)
    cache.attach(FakeConfig())
    cache.save()
    assert cache.state == "none"


def test_a_timing_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = TimingCache(tmp_path / "file" / "a.timing", MADE_BY)
    cache.attach(FakeConfig())
    cache.save()
    assert "cannot be written" in caplog.text


@pytest.fixture
def stages_target(monkeypatch: pytest.MonkeyPatch) -> tuple[Target, list[TimingCache]]:
    """A target whose builder only notes the timing cache that it is given."""
    given: list[TimingCache] = []

    def refuse(model: Path, target: Target, options: BuildOptions, cache: TimingCache, *_: object) -> None:
        given.append(cache)
        raise EngineError("the fake builder builds nothing.")

    monkeypatch.setattr("vla_edge.export.build.stages.build_engine", refuse)
    machine = Machine(backend="tensorrt", version="10.6.0", sm=87, gpu="Fake GPU", driver="")
    return Target(Library("tensorrt", None, "10.6.0"), machine, FakeDevice([]), ""), given


def test_stages_are_built_with_the_kernel_times_of_the_plan(
    tmp_path: Path, stages_target: tuple[Target, list[TimingCache]]
) -> None:
    (target, given), bundle = stages_target, small_bundle(tmp_path / "bundle")
    with (
        pytest.raises(EngineError, match="builds nothing"),
        tapped_engine(bundle, [], target, BuildOptions(), Silent()),
    ):
        pass
    assert [cache.path for cache in given] == [bundle.folder / "plans" / "tensorrt-10.6.0-sm87.timing"]
    assert not (bundle.folder / "plans").exists()


def test_stages_are_not_built_without_room(
    tmp_path: Path, stages_target: tuple[Target, list[TimingCache]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (target, given), bundle = stages_target, small_bundle(tmp_path / "bundle")
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with (
        pytest.raises(ResourceError, match="Not enough disk"),
        tapped_engine(bundle, [], target, BuildOptions(), Silent()),
    ):
        pass
    assert not given


def test_peak_memory_is_of_the_block() -> None:
    with PeakMemory() as memory:
        block = np.ones(80 << 20, np.uint8)
        peak = memory.peak_mib()
    assert peak > 80
    del block


# --- the library


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


# What this package calls, by class. What only some versions have is probed for in the code and not listed.
USED = {
    "ILogger": ["log", "Severity"],
    "IErrorRecorder": ["report_error", "num_errors", "get_error_code", "get_error_desc", "has_overflowed", "clear"],
    "IProgressMonitor": ["phase_start", "step_complete", "phase_finish"],
    "Builder": ["create_network", "create_builder_config", "build_serialized_network"],
    "IBuilderConfig": [
        "builder_optimization_level", "profiling_verbosity", "clear_flag", "max_aux_streams", "set_memory_pool_limit",
        "progress_monitor", "create_timing_cache", "set_timing_cache", "get_timing_cache",
    ],
    "ITimingCache": ["serialize", "combine"],
    "BuilderFlag": ["TF32"],
    "MemoryPoolType": ["WORKSPACE"],
    "ProfilingVerbosity": ["DETAILED"],
    "LayerInformationFormat": ["JSON"],
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "INetworkDefinition": ["num_layers", "get_layer", "num_outputs", "get_output", "mark_output"],
    "ILayer": ["type", "num_outputs", "get_output"],
    "ITensor": ["name", "dtype"],
    "OnnxParser": ["parse_from_file", "num_errors", "get_error"],
    "ParserError": ["node", "node_name", "node_operator", "desc", "file", "line"],
    "Runtime": ["deserialize_cuda_engine", "error_recorder"],
    "ICudaEngine": [
        "create_execution_context", "create_engine_inspector", "num_io_tensors", "get_tensor_name", "get_tensor_mode",
        "get_tensor_dtype", "get_tensor_shape", "get_tensor_location", "device_memory_size_v2",
    ],
    "EngineInspector": ["get_engine_information"],
    "IExecutionContext": ["set_tensor_address", "execute_async_v3"],
}  # fmt: skip
RTX_ONLY = {
    "IBuilderConfig": ["set_compute_capability", "num_compute_capabilities"],
    "ComputeCapability": ["SM89"],
    "ICudaEngine": ["create_runtime_config"],
    "IRuntimeConfig": [
        "create_runtime_cache",
        "set_runtime_cache",
        "dynamic_shapes_kernel_specialization_strategy",
    ],
    "IRuntimeCache": ["serialize", "deserialize"],
    "DynamicShapesKernelSpecializationStrategy": ["EAGER"],
}


def missing(module: str, used: dict[str, list[str]], environment: dict[str, str] | None = None) -> list[str]:
    """Names of `used` that a binding lacks, asked in a process of its own."""
    lines = (
        f"import {module} as trt, json\nused = json.loads({json.dumps(json.dumps(used))})\n"
        "print(json.dumps([f'{c}.{a}' for c in used for a in used[c] if not hasattr(getattr(trt, c, None), a)]))"
    )
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    result: list[str] = json.loads(done.stdout)
    return result


def test_tensorrt_rtx_has_all_that_is_called() -> None:
    assert missing("tensorrt_rtx", USED) == []
    assert missing("tensorrt_rtx", RTX_ONLY) == []


def bindings() -> list[Any]:
    """Folders with a `tensorrt_bindings` package, as VLA_EDGE_TENSORRT_BINDINGS lists them: a case for each.

    One that is not there (no wheel for this platform, no network) is a case that is skipped and says so.
    """
    listed = os.environ.get("VLA_EDGE_TENSORRT_BINDINGS", "")
    folders = [Path(folder).absolute() for folder in listed.split(os.pathsep) if folder]
    if not folders:
        why = "VLA_EDGE_TENSORRT_BINDINGS lists no bindings of TensorRT; make test installs some and sets it"
        return [pytest.param(Path(), id="none", marks=pytest.mark.skip(reason=why))]
    return [pytest.param(folder, id=folder.name, marks=absent(folder)) for folder in folders]


def absent(folder: Path) -> list[pytest.MarkDecorator]:
    if (folder / "tensorrt_bindings").is_dir():
        return []
    return [pytest.mark.skip(reason=f"{folder} has no bindings of TensorRT; make bindings says why")]


@pytest.mark.parametrize("folder", bindings())
def test_tensorrts_bindings_have_all_that_is_called(tmp_path: Path, folder: Path) -> None:
    """On libraries that are only names: no GPU and no libnvinfer."""
    paths = {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(stub_libraries(tmp_path))}
    assert missing("tensorrt_bindings", USED, paths) == []


@pytest.mark.gpu
def test_the_tensorrt_that_is_installed_has_all_that_is_called() -> None:
    assert missing("tensorrt", USED) == []


def stub_libraries(folder: Path) -> Path:
    """Libraries with the functions that the bindings link to, for each major version."""
    functions = (
        "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL getPluginRegistry "
        "createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry "
        "getNvOnnxParserVersion initLibNvInferPlugins"
    )
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions.split()))
    for major in (10, 11):
        for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-o", folder / f"lib{name}.so.{major}", source], check=True
            )
    return folder
