"""The PyTorch policy behind the same protocol as the engines, as the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from vla_edge.runtime.bundle import Bundle
from vla_edge.runtime.sessions.base import EngineIdentity

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["fp32", "fp16"]
CAPTURE_WARMUP = 3  # PyTorch's documentation of CUDA graphs asks for a few runs before capture


class TorchSession:
    """A policy in PyTorch with host arrays in and out, as `sessions.base.Session` asks.

    Inputs are named and shaped as the graph's, but `input_ids` are the tokenizer's own (`token_ids` of the
    golden samples): a graph may hold only the embedding rows of its declared instructions. FP32 means FP32:
    TF32 is switched off for the process. FP16 is plain `policy.half()`, what one would try first.

    Args:
        policy: in eval mode, with FP32 weights; moved and converted in place.
        bundle: what the policy stands beside; gives names and shapes of inputs and outputs.
        precision: of weights and floating-point inputs.
        device: "cpu" or "cuda".
        graph: capture the forward pass in one CUDA graph, so that the host's part is a single launch.

    Attributes:
        device_ms: on a GPU, milliseconds between CUDA events around each forward pass so far; no copies.
    """

    def __init__(
        self, policy: nn.Module, bundle: Bundle, precision: Precision, device: str, *, graph: bool = False
    ) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._torch = torch
        self._device = torch.device(device)
        self._dtype = torch.float16 if precision == "fp16" else torch.float32
        self._policy = policy.to(self._device, self._dtype)  # `.half()` and `.cuda()`, tensor by tensor
        self._hosts = {spec.name: self._buffer(spec.shape, spec.dtype) for spec in bundle.manifest.inputs}
        self.inputs: Mapping[str, np.ndarray] = {name: host.numpy() for name, host in self._hosts.items()}
        self.outputs: Mapping[str, np.ndarray] = {
            spec.name: np.zeros(spec.shape, np.float32) for spec in bundle.manifest.outputs
        }
        self.device_ms: list[float] = []
        is_gpu = self._device.type == "cuda"
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if is_gpu else []
        self._graph = self._capture() if graph else None
        self.identity = self._identify(precision, bundle.identity)

    def run(self) -> None:
        """Copy in, forward, copy out."""
        if self._graph is None:
            results = self._forward({name: self._to_device(host) for name, host in self._hosts.items()})
        else:
            results = self._replay(self._graph)
        for name, output in self.outputs.items():
            # float() and cpu() wait for the GPU
            np.copyto(output, results[name].float().cpu().numpy())
        if self._events:
            self.device_ms.append(self._events[0].elapsed_time(self._events[1]))

    def close(self) -> None:
        """Let go of the weights."""
        self._policy = None  # type: ignore[assignment]
        self._graph = None

    def peak_allocated_mib(self) -> float | None:
        """The largest sum of tensors that torch's allocator held on the GPU, or None on a CPU."""
        if self._device.type != "cuda":
            return None
        return self._torch.cuda.max_memory_allocated() / (1 << 20)

    def _forward(self, arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not self._events:
            return self._policy(**arguments)
        begin, end = self._events
        begin.record()
        results = self._policy(**arguments)
        end.record()
        return results

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Warm up on a stream of its own, then capture; inputs and results stay where the graph has them."""
        cuda = self._torch.cuda
        self._inputs = {name: self._to_device(host) for name, host in self._hosts.items()}
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):
            for _ in range(CAPTURE_WARMUP):
                self._policy(**self._inputs)
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            self._results = self._policy(**self._inputs)
        return graph

    def _replay(self, graph: torch.cuda.CUDAGraph) -> dict[str, torch.Tensor]:
        for name, host in self._hosts.items():
            self._inputs[name].copy_(host, non_blocking=True)
        begin, end = self._events
        begin.record()
        graph.replay()
        end.record()
        return self._results

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        pinned = self._device.type == "cuda"
        return self._torch.zeros(shape, dtype=getattr(self._torch, dtype), pin_memory=pinned)

    def _to_device(self, host: torch.Tensor) -> torch.Tensor:
        dtype = self._dtype if host.is_floating_point() else None
        return host.to(self._device, dtype, non_blocking=True)

    def _identify(self, precision: Precision, bundle: str) -> EngineIdentity:
        if self._device.type == "cuda":
            major, minor = self._torch.cuda.get_device_capability(self._device)
            device = f"cuda:0 {self._torch.cuda.get_device_name(self._device)} (sm{major}{minor})"
        else:
            device = f"cpu ({self._torch.get_num_threads()} threads)"
        version = str(self._torch.__version__)  # a subclass of str that reports cannot hold
        how = "CUDA graph" if self._graph is not None else "eager"
        return EngineIdentity("torch", version, device, how, precision, precision, bundle)
