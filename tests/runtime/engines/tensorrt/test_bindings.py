"""Every name that is called, here and by the builder, is in the bindings of each TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    "IExecutionContext": [
        "set_tensor_address", "execute_async_v3", "set_device_memory", "error_recorder", "profiler",
    ],
    "ExecutionContextAllocationStrategy": ["STATIC", "USER_MANAGED"],
}  # fmt: skip


RTX_ONLY = {
    "IBuilderConfig": ["set_compute_capability", "num_compute_capabilities"],
    "ComputeCapability": ["SM89"],
    "ICudaEngine": ["create_runtime_config"],
    "IRuntimeConfig": [
        "create_runtime_cache",
        "set_runtime_cache",
        "set_execution_context_allocation_strategy",
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
