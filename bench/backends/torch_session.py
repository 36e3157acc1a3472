"""The PyTorch policy behind the same protocol as the engines, as the baseline, in each way PyTorch can run it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Literal

import numpy as np

from vla_edge.bench.report.units import BYTES_PER_MIB
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.session import EngineIdentity, HostWork, nothing
from vla_edge.runtime.errors import EngineError

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["fp32", "fp16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
CAPTURE_WARMUP = 3  # PyTorch's documentation of CUDA graphs asks for a few runs before capture


@dataclass(frozen=True)
class TorchMode:
    """One way to run a module.

    Attributes:
        precision: of weights and floating-point inputs; FP16 is plain `.half()`, what one would try first.
        tf32: let FP32 matmuls and cuDNN round their operands to 10 bits. On a GPU only.
        graph: capture the forward pass in one CUDA graph, so that the host's part is a single launch.
            On a GPU only.
        compile_mode: of `torch.compile`; None runs eagerly. The first call compiles; what it leaves in
            `TORCHINDUCTOR_CACHE_DIR` makes the next process's first call shorter.
    """

    precision: Precision
    tf32: bool = False
    graph: bool = False
    compile_mode: CompileMode | None = None

    @property
    def how(self) -> str:
        """In words, for the identity."""
        if self.compile_mode is not None:
            return f"torch.compile {self.compile_mode}"
        return "CUDA graph" if self.graph else "eager"

    @property
    def needs_gpu(self) -> bool:
        return self.tf32 or self.graph


TORCH_MODES: Mapping[str, TorchMode] = {
    "torch-fp32": TorchMode("fp32"),
    "torch-tf32": TorchMode("fp32", tf32=True),
    "torch-fp16": TorchMode("fp16"),
    "torch-fp16-graph": TorchMode("fp16", graph=True),
    "torch-compile": TorchMode("fp16", compile_mode="max-autotune"),
    "torch-compile-reduce-overhead": TorchMode("fp16", compile_mode="reduce-overhead"),
}


def prepare_torch(device: str, threads: int) -> None:
    """Set this process's PyTorch up before anything is measured on it.

    Args:
        device: "cpu" or "cuda".
        threads: on the CPU.

    Raises:
        EngineError: torch sees no GPU.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("PyTorch sees no GPU.", "Install a CUDA build of torch, or use --device cpu.")
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Signature:
    """What a module takes and gives, by name, and whose it is (`EngineIdentity.bundle`)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    owner: str


class TorchSession:
    """A policy in PyTorch with host arrays in and out, as `runtime.engines.session.Session` asks.

    Inputs are named and shaped as the graph's, but `input_ids` are the tokenizer's own (`token_ids` of the
    golden samples): a graph may hold only the embedding rows of its declared instructions. FP32 means FP32:
    unless the mode asks for TF32, it is switched off for the process.

    Args:
        policy: in eval mode, with FP32 weights, its `forward` free of gradients and giving a dict; moved and
            converted in place.
        signature: names and shapes of inputs and outputs.
        mode: how to run it.
        device: "cpu" or "cuda".

    Attributes:
        device_ms: on a GPU, milliseconds between CUDA events around each forward pass so far; no copies.
        queue_ms: on a GPU, milliseconds until the host had queued the kernels of each of them.
        compile_s: seconds of the first call, which compiles; None before it, and where nothing is compiled.
        compiled_from_cache: whether Inductor found the graph in its cache on disk, so that `compile_s` is short.
        held_mib: on a GPU, tensors that torch's allocator held once the weights were there, in MiB.
        load_peak_mib: on a GPU, the most that it held while they were being moved, in MiB.

    Raises:
        EngineError: the mode needs a GPU and the device is the CPU.
    """

    def __init__(self, policy: nn.Module, signature: Signature, mode: TorchMode, device: str) -> None:
        import torch

        self.mode = mode
        self._torch = torch
        self._device = torch.device(device)
        self._check_device()
        torch.backends.cuda.matmul.allow_tf32 = self.mode.tf32
        torch.backends.cudnn.allow_tf32 = self.mode.tf32
        self._dtype = torch.float16 if self.mode.precision == "fp16" else torch.float32
        self._policy = self._move(policy)
        self._hosts = {spec.name: self._buffer(spec.shape, spec.dtype) for spec in signature.inputs}
        self.inputs: Mapping[str, np.ndarray] = {name: host.numpy() for name, host in self._hosts.items()}
        self.outputs: Mapping[str, np.ndarray] = {
            spec.name: np.zeros(spec.shape, np.float32) for spec in signature.outputs
        }
        self.device_ms: list[float] = []
        self.queue_ms: list[float] = []
        self.compile_s: float | None = None
        self.compiled_from_cache = False
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self._is_gpu else []
        self._static: dict[str, torch.Tensor] | None = None
        self._compiled = self._make_compiled() if self.mode.compile_mode else None
        self._graph = self._capture() if self.mode.graph else None
        self.identity = self._identify(signature.owner)

    def run(self, host_work: HostWork = nothing) -> None:
        """Copy in, forward, copy out; `host_work` runs beside a GPU, see `Session.run`.

        Raises:
            EngineError: `torch.compile` failed, in the first call.
        """
        results = self._timed(self._arguments())
        try:
            host_work()
        finally:
            self._copy_out(results)

    def close(self) -> None:
        """Let go of the weights."""
        self._policy = None  # type: ignore[assignment]
        self._compiled = None
        self._graph = None

    def peak_allocated_mib(self) -> float | None:
        """The largest sum of tensors that torch's allocator held on the GPU, or None on a CPU."""
        steps = self.step_peak_mib()
        return None if steps is None or self.load_peak_mib is None else max(steps, self.load_peak_mib)

    def step_peak_mib(self) -> float | None:
        """The same since the weights were there: while capturing, compiling and stepping."""
        return self._torch.cuda.max_memory_allocated() / BYTES_PER_MIB if self._is_gpu else None

    def _copy_out(self, results: Mapping[str, torch.Tensor]) -> None:
        for name, output in self.outputs.items():
            # float() and cpu() wait for the GPU, and copy out before a graph's next replay writes over them
            np.copyto(output, results[name].float().cpu().numpy())
        if self._events:
            self.device_ms.append(self._events[0].elapsed_time(self._events[1]))

    @property
    def _is_gpu(self) -> bool:
        return self._device.type == "cuda"

    def _check_device(self) -> None:
        if self.mode.needs_gpu and not self._is_gpu:
            what = "TF32" if self.mode.tf32 else "a CUDA graph"
            raise EngineError(f"{what} needs a GPU, not {self._device}.", "Use --device cuda.")

    def _move(self, policy: nn.Module) -> nn.Module:
        """`.half()` and `.cuda()`, tensor by tensor; the allocator's peak is read and set back."""
        self.held_mib: float | None = None
        self.load_peak_mib: float | None = None
        if not self._is_gpu:
            return policy.to(self._device, self._dtype)
        cuda = self._torch.cuda
        cuda.init()  # before it there are no statistics to set back
        cuda.reset_peak_memory_stats()
        moved = policy.to(self._device, self._dtype)
        self.held_mib = cuda.memory_allocated() / BYTES_PER_MIB
        self.load_peak_mib = cuda.max_memory_allocated() / BYTES_PER_MIB
        cuda.reset_peak_memory_stats()
        return moved

    def _make_compiled(self) -> Callable[..., dict[str, torch.Tensor]]:
        """The forward pass as one compiled graph, on inputs whose place is fixed: a CUDA graph reads them there.

        Left alone, Dynamo meets an LSTM, or `inference_mode` around it, and runs the whole pass eagerly
        without a word. So it is told to trace RNNs, is given the pass without its decorators, and must find
        one graph or fail.
        """
        self._torch._dynamo.config.allow_rnn = True
        self._static = {name: self._to_device(host).clone() for name, host in self._hosts.items()}
        for buffer in self._static.values():
            self._torch._dynamo.mark_static_address(buffer)
        forward = MethodType(inspect.unwrap(type(self._policy).forward), self._policy)
        return self._torch.compile(forward, mode=self.mode.compile_mode, fullgraph=True)

    def _arguments(self) -> dict[str, torch.Tensor]:
        if self._static is None:
            return {name: self._to_device(host) for name, host in self._hosts.items()}
        for name, host in self._hosts.items():
            self._static[name].copy_(self._to_device(host))
        return self._static

    def _timed(self, arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not self._events:
            return self._forward(arguments)
        begin, end = self._events
        begin.record()
        start = time.perf_counter()
        results = self._forward(arguments)
        self.queue_ms.append((time.perf_counter() - start) * 1e3)
        end.record()
        return results

    def _forward(self, arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._graph is not None:
            self._graph.replay()
            return self._results
        if self._compiled is None:
            return self._policy(**arguments)
        self._torch.compiler.cudagraph_mark_step_begin()
        with self._torch.no_grad():
            if self.compile_s is None:
                return self._compile(self._compiled, arguments)
            return self._compiled(**arguments)

    def _compile(
        self, compiled: Callable[..., dict[str, torch.Tensor]], arguments: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        start = time.perf_counter()
        try:
            results = compiled(**arguments)
            if self._is_gpu:
                self._torch.cuda.synchronize()
        except Exception as error:  # Dynamo, Inductor, Triton and compilers share no base of their errors
            raise EngineError(
                f"torch.compile in mode {self.mode.compile_mode} failed: {_reason(error)}.",
                "It needs a C++ compiler (g++) and, on a GPU, Triton: install them, or leave this backend out.",
            ) from error
        self.compile_s = time.perf_counter() - start
        counters = self._torch._dynamo.utils.counters["inductor"]
        self.compiled_from_cache = counters["fxgraph_cache_hit"] > 0
        return results

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Warm up, then capture on the same stream; inputs and results stay where the graph has them."""
        cuda = self._torch.cuda
        self._static = {name: self._to_device(host) for name, host in self._hosts.items()}
        # one stream for both, since cuBLAS keeps a workspace for each stream that it has been used on
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(CAPTURE_WARMUP):
                self._policy(**self._static)
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, stream=stream):
            self._results = self._policy(**self._static)
        return graph

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        return self._torch.zeros(shape, dtype=getattr(self._torch, dtype), pin_memory=self._is_gpu)

    def _to_device(self, host: torch.Tensor) -> torch.Tensor:
        """Converted where it arrives: in one call torch would convert on the host, out of page-locked memory."""
        moved = host.to(self._device, non_blocking=True)
        return moved.to(self._dtype) if host.is_floating_point() else moved

    def _identify(self, owner: str) -> EngineIdentity:
        if self._is_gpu:
            major, minor = self._torch.cuda.get_device_capability(self._device)
            device = f"cuda:0 {self._torch.cuda.get_device_name(self._device)} (sm{major}{minor})"
        else:
            device = f"cpu ({self._torch.get_num_threads()} threads)"
        version = str(self._torch.__version__)  # a subclass of str that reports cannot hold
        compute = "tf32" if self.mode.tf32 else self.mode.precision
        return EngineIdentity("torch", version, device, self.mode.how, self.mode.precision, compute, owner)


def _reason(error: BaseException) -> str:
    """Kind and first line of what a compiler said, from inside Dynamo's wrapping."""
    inner = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0].rstrip('.')}" if lines else type(inner).__name__
