"""ONNX Runtime behind the session protocol: on the CPU by default, on a CUDA device by explicit choice.

Memory and time of an exported hybrid of 121 M weights on one x86 core (ONNX Runtime 1.31; peak anonymous
and mapped memory in MiB, CPU time in ms a step):

    graph             optimisation     prepacking    anonymous   mapped   ms
    FP16, 232 MiB     all              yes                 580        -   320
    FP16              all              no                  590        -   370
    FP16              extended         yes                 930      231   400
    FP16              basic, no arena  yes                 480      231   580
    FP32, 462 MiB     all              yes                 510        -   320
    FP32              all              no                   60      454   385

x86 has no FP16 kernels in ONNX Runtime. "All" is the level that widens the weights once, at load, to twice
the file's size; below it they are widened in every step. So ONNX Runtime's own defaults are kept, and
prepacking is an option: without it an FP32 graph is a sixth slower, but its weights stay mapped from the
file, shared between processes and given back when memory runs short.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest, TensorSpec
from vla_edge.runtime.errors import BundleError, EngineError, InputError
from vla_edge.runtime.process.cores import usable_cores
from vla_edge.runtime.process.forked import HomeProcess
from vla_edge.runtime.process.machine import cpu_name

from .nvidia_gpu import has_nvidia_gpu
from .session import MAX_DEVICE_INDEX, EngineIdentity, HostWork, nothing, require_whole

Provider = Literal["cpu", "cuda"]

_PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Distributions that install the same import package, each overwriting the other's files.
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_REINSTALL = "pip install --force-reinstall onnxruntime-gpu"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}
# Its log goes to stderr as it is, with the names of a stranger's nodes; what fails is raised as well.
_FATAL_ONLY, _WARNINGS = 4, 2
MAX_THREADS = 256


@dataclass(frozen=True)
class OnnxRuntimeOptions:
    """How ONNX Runtime runs.

    Attributes:
        threads: of one operator on the CPU, 1 to `most_threads()`; None: the physical cores that this process
            may use.
        provider: "cpu", or "cuda", which fails where it cannot run.
        device_index: of the CUDA device.
        tf32: let CUDA round FP32 matmuls to TF32, faster and less exact.
        prepack: copy weights into the layout that matmuls like best; False saves that copy of an FP32 graph.
        profile_prefix: time every node, which slows a run, for `end_profiling`; the file's path begins so.

    Raises:
        InputError: a value is out of range.
    """

    threads: int | None = None
    provider: Provider = "cpu"
    device_index: int = 0
    tf32: bool = False
    prepack: bool = True
    profile_prefix: Path | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            require_whole("threads", self.threads, 1, most_threads())
        if not isinstance(self.provider, str) or self.provider not in _PROVIDERS:
            raise InputError(f"provider={self.provider!r} is not known.", "Use 'cpu' or 'cuda'.")
        require_whole("device_index", self.device_index, 0, MAX_DEVICE_INDEX)
        for name in ("tf32", "prepack"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r} is refused.", "Give True or False.")


def most_threads() -> int:
    """More would only wait for each other: 2000 on two cores take minutes to load."""
    return min(MAX_THREADS, max(16, 4 * usable_cores()))


class OnnxRuntimeSession:
    """A bundle's graph in ONNX Runtime, its buffers bound once.

    On CUDA the inputs are copied to the device in `run`. One thread at a time.

    Args:
        bundle: opened, hence checked; the files that were checked are the ones loaded.
        options: how to run.

    Raises:
        EngineError: ONNX Runtime is missing, installed twice, cannot load the graph, or does not run on
            the provider asked for.
        BundleError: the graph's inputs or outputs are not the manifest's.
    """

    def __init__(self, bundle: Bundle, options: OnnxRuntimeOptions | None = None) -> None:
        chosen = options or OnnxRuntimeOptions()
        ort = import_onnxruntime()
        threads = chosen.threads or usable_cores()
        self._home = HomeProcess(self)
        self._session = _create_session(ort, bundle, chosen, threads)
        _check_provider(self._session, chosen)
        _check_signature(self._session, bundle)
        self.identity = _identity(ort, bundle, chosen, threads)
        self.inputs: Mapping[str, np.ndarray] = _buffers(bundle.manifest.inputs)
        self.outputs: Mapping[str, np.ndarray] = _buffers(bundle.manifest.outputs)
        self._device_inputs: dict[str, Any] = {}
        if chosen.provider == "cuda":
            self._device_inputs = {
                name: ort.OrtValue.ortvalue_from_numpy(array, "cuda", chosen.device_index)
                for name, array in self.inputs.items()
            }
        self._binding = self._bind()

    def run(self, host_work: HostWork = nothing) -> None:
        """Run the graph once on what `inputs` holds; see `Session.run`."""
        if self._session is None:
            raise _closed()
        self._home.require()
        host_work()
        try:
            for name, value in self._device_inputs.items():
                value.update_inplace(self.inputs[name])
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise EngineError(f"ONNX Runtime failed: {error}.", "Load the policy again.") from error

    def end_profiling(self) -> Path:
        """Write the times of all nodes in all runs so far, once, for a session opened with `profile_prefix`.

        Returns:
            A file of trace events in JSON (onnxruntime.ai, Profiling tools).

        Raises:
            EngineError: the session is closed, or keeps no times.
        """
        if self._session is None:
            raise _closed()
        self._home.require()
        path = self._session.end_profiling()
        if not path:
            raise EngineError("This session keeps no times.", "Open it with profile_prefix, and end it once.")
        return Path(path)

    def close(self) -> None:
        """Free the graph and its weights; the NumPy buffers stay valid for whoever holds them.

        A forked child frees nothing: see `forked`.
        """
        if not self._home.here:
            return
        self._binding = None
        self._device_inputs = {}
        self._session = None

    def _bind(self) -> Any:
        """Bind the buffers by address, so that a run reads and writes them and allocates no others."""
        binding = self._session.io_binding()
        for name, array in self.inputs.items():
            if name in self._device_inputs:
                binding.bind_ortvalue_input(name, self._device_inputs[name])
            else:
                binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in self.outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding


def import_onnxruntime() -> Any:
    """Import ONNX Runtime so that it sends and writes nothing of its own.

    From 1.29 on, its Linux wheels upload events and write an identifier into the user's cache folder as
    soon as they are imported. Setting `ORT_DISABLE_TELEMETRY` before that prevents both; a value that the
    user has set is kept.

    Raises:
        EngineError: it is missing, broken, or several of its distributions overwrite each other.
    """
    _refuse_double_install()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise EngineError("onnxruntime is not installed.", "pip install 'vla-edge[onnxruntime]'") from error
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported: {error}.", _REINSTALL) from error
    return onnxruntime


def _refuse_double_install() -> None:
    found = [name for name in _DISTRIBUTIONS if any(importlib.metadata.distributions(name=name))]
    if len(found) > 1:
        raise EngineError(
            f"{' and '.join(found)} are both installed; they overwrite each other's files, "
            "so which of them runs is chance.",
            f"pip uninstall -y {' '.join(found)} && {_REINSTALL}",
        )


def _closed() -> EngineError:
    return EngineError("the ONNX Runtime session is closed.", "Load the policy again.")


def _create_session(ort: Any, bundle: Bundle, options: OnnxRuntimeOptions, threads: int) -> Any:
    # Beside a GPU the log of the whole process tells what CUDA misses, and nothing else does.
    tells_why = options.provider == "cuda" and has_nvidia_gpu()
    ort.set_default_logger_severity(_WARNINGS if tells_why else _FATAL_ONLY)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL_ONLY
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.add_session_config_entry("session.disable_prepacking", str(int(not options.prepack)))
    if options.profile_prefix is not None:
        settings.profile_file_prefix = str(options.profile_prefix)
        settings.enable_profiling = True
    providers = _providers(ort, options)
    path = bundle.model_path  # checked here, as shortly before its use as can be
    try:
        return ort.InferenceSession(
            str(path),
            settings,
            providers=providers,
            enable_fallback=0,  # else a failing provider is replaced by the CPU, with a print
        )
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise EngineError(
            f"ONNX Runtime {ort.__version__} cannot load {path}: {error}.",
            "Export with an ONNX Runtime no newer than this one, or upgrade this one.",
        ) from error


def _providers(ort: Any, options: OnnxRuntimeOptions) -> list[Any]:
    if options.provider == "cpu":
        return [_PROVIDERS["cpu"]]
    available = ort.get_available_providers()
    if _PROVIDERS["cuda"] not in available:
        raise EngineError(
            f"this onnxruntime has no CUDA provider; it has {', '.join(available)}.",
            f"pip uninstall -y onnxruntime && {_REINSTALL}, or choose provider='cpu'.",
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds CUDA and cuDNN where pip put them
    settings = {"device_id": str(options.device_index), "use_tf32": str(int(options.tf32))}
    return [(_PROVIDERS["cuda"], settings)]


def _check_provider(session: Any, options: OnnxRuntimeOptions) -> None:
    """A provider that cannot start is left out by ONNX Runtime with no more than a log line."""
    running = session.get_providers()
    if running[0] != _PROVIDERS[options.provider]:
        why = "its log line above says why" if has_nvidia_gpu() else "this machine shows no NVIDIA GPU"
        raise EngineError(
            f"CUDA was asked for, but ONNX Runtime runs on {running[0]}: the CUDA provider did not start on "
            f"device {options.device_index} ({why}).",
            "Check nvidia-smi, and CUDA and cuDNN with: pip install 'onnxruntime-gpu[cuda,cudnn]'; "
            "or choose provider='cpu'.",
        )


def _check_signature(session: Any, bundle: Bundle) -> None:
    for kind, found, wanted in (
        ("inputs", session.get_inputs(), bundle.manifest.inputs),
        ("outputs", session.get_outputs(), bundle.manifest.outputs),
    ):
        have = {value.name: (_DTYPES.get(value.type, value.type), tuple(value.shape)) for value in found}
        declared = {spec.name: (spec.dtype, spec.shape) for spec in wanted}
        if have != declared:
            raise BundleError(
                f"{bundle.model_path} has the {kind} {_shown(have)}; the manifest says {_shown(declared)}.",
                "The bundle was put together by hand or damaged; export it again.",
            )


def _shown(tensors: Mapping[str, tuple[str, tuple[Any, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in sorted(tensors.items()))


def _buffers(specs: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs}


def _identity(ort: Any, bundle: Bundle, options: OnnxRuntimeOptions, threads: int) -> EngineIdentity:
    on_cpu = options.provider == "cpu"
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    return EngineIdentity(
        backend="onnxruntime",
        version=ort.__version__,
        device=f"cpu: {cpu_name()} ({counted})" if on_cpu else f"cuda:{options.device_index}",
        provider=_PROVIDERS[options.provider],
        precision=bundle.manifest.precision.achieved,
        compute=_compute(bundle.manifest, on_cpu),
        bundle=bundle.identity,
    )


def _compute(manifest: Manifest, on_cpu: bool) -> str:
    precision = manifest.precision.achieved
    if not on_cpu or precision == "fp32":
        return precision
    if platform.machine() in ("x86_64", "AMD64"):
        return "fp32 (this CPU has no FP16 kernels, ONNX Runtime widens)"
    return "fp16 where ONNX Runtime has kernels for this CPU, else fp32"
