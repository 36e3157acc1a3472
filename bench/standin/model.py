"""The random stand-in that a published latency table timed in place of the policies: shapes, weights, reference.

    Linear(150528, 2048), nn.RNN(2048, 4096, 4 layers, tanh, batch_first), Linear 4096-1024-512-256-2 with ReLU

438,997,250 parameters, batch 1, sequence 1, input [1, 1, 150528] (a 224x224 RGB image, flattened). It reads no
image, no instruction and no checkpoint, so its figures say nothing of a policy. It is rebuilt here under its
own name, so that what was published can be seen beside what was measured. Needs NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from vla_edge.bench.options.options import Device
from vla_edge.runtime.bundle.manifest import Gate, TensorSpec
from vla_edge.runtime.process.cores import usable_cores

BUNDLE = "standin"  # of a job: there is no folder
WEIGHTS_ORIGIN = "random stand-in, no policy"
PIXELS, STATE, ACTIONS = "pixels", "state", "actions"
SAMPLES = 4
# Rounding weights and activations to half gives an error of about 5e-3 (FP16 on a CPU, widths divided by 8).
GATES: Mapping[str, tuple[Gate, ...]] = {
    "fp32": (Gate(stage="action", metric="relative_l2", limit=1e-3),),
    "fp16": (Gate(stage="action", metric="relative_l2", limit=3e-2),),
}

_SEED = 150528
_BLOCK = 1 << 23  # numbers drawn from one stream; part of what the weights are
_REFERENCE_ROWS = 64

Engine = Literal["torch", "onnxruntime", "tensorrt"]
Precision = Literal["fp32", "fp16"]


class StandinBackend(NamedTuple):
    """One way to run the stand-in.

    Attributes:
        engine: what runs it.
        precision: of weights and arithmetic.
    """

    engine: Engine
    precision: Precision


# by name, baselines first; behind the colon PyTorch's stand the names of its modes
BACKENDS: Mapping[str, StandinBackend] = {
    "standin:torch-fp32": StandinBackend("torch", "fp32"),
    "standin:torch-fp16": StandinBackend("torch", "fp16"),
    "standin:torch-fp16-graph": StandinBackend("torch", "fp16"),
    "standin:onnxruntime-fp32": StandinBackend("onnxruntime", "fp32"),
    "standin:tensorrt-fp32": StandinBackend("tensorrt", "fp32"),
    "standin:tensorrt-fp16": StandinBackend("tensorrt", "fp16"),
}


def standin_backends(device: Device, *, tensorrt: bool = False) -> tuple[str, ...]:
    """Names of the stand-in's backends that a device can run, baselines first.

    Args:
        device: x86 has no half-precision kernels worth timing, so a CPU gets the FP32 ones.
        tensorrt: whether TensorRT is installed.
    """

    def runs(engine: Engine, precision: Precision) -> bool:
        if device == "cpu":
            return engine != "tensorrt" and precision == "fp32"
        return engine == "torch" or (tensorrt and engine == "tensorrt")

    return tuple(name for name, backend in BACKENDS.items() if runs(*backend))


@dataclass(frozen=True)
class Standin:
    """Its widths, all divided by `scale`: 1 is the stand-in itself, tests take smaller ones."""

    scale: int = 1
    layers: ClassVar[int] = 4

    @property
    def pixels(self) -> int:
        """224 * 224 * 3 at full size."""
        return 150528 // self.scale

    @property
    def features(self) -> int:
        return 2048 // self.scale

    @property
    def hidden(self) -> int:
        return 4096 // self.scale

    @property
    def head(self) -> tuple[int, ...]:
        """Widths of the head, from its input to the two actions."""
        return (self.hidden, 1024 // self.scale, 512 // self.scale, 256 // self.scale, 2)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each weight, named and ordered as in the PyTorch module's state dict."""
        shapes: dict[str, tuple[int, ...]] = {
            "embed.weight": (self.features, self.pixels),
            "embed.bias": (self.features,),
        }
        for layer in range(self.layers):
            width = self.features if layer == 0 else self.hidden
            shapes[f"rnn.weight_ih_l{layer}"] = (self.hidden, width)
            shapes[f"rnn.weight_hh_l{layer}"] = (self.hidden, self.hidden)
            shapes[f"rnn.bias_ih_l{layer}"] = (self.hidden,)
            shapes[f"rnn.bias_hh_l{layer}"] = (self.hidden,)
        for at, (width, out) in enumerate(pairwise(self.head)):
            # every second module of the head is an activation
            shapes[f"head.{2 * at}.weight"] = (out, width)
            shapes[f"head.{2 * at}.bias"] = (out,)
        return shapes

    def parameters_of(self, module: str = "") -> int:
        """Of the weights whose names begin so: "embed", "rnn", "head", or "" for all."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name.startswith(module))

    @property
    def inputs(self) -> tuple[TensorSpec, TensorSpec]:
        """Pixels, batch 1 and sequence 1; and the RNN's state, which PyTorch makes by itself."""
        return (
            TensorSpec(name=PIXELS, dtype="float32", shape=(1, 1, self.pixels)),
            TensorSpec(name=STATE, dtype="float32", shape=(self.layers, 1, self.hidden)),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(name=ACTIONS, dtype="float32", shape=(1, 1, 2)),)

    @property
    def identity(self) -> str:
        return f"{BUNDLE} [{self.parameters_of()} random weights]"


def weight(standin: Standin, name: str) -> np.ndarray:
    """One weight: float32, the same on every machine and for every backend.

    Uniform with a spread that keeps signals alive from pixels to actions, so that an error anywhere shows
    in the actions. PyTorch's own initialisation lets them fade to the last layer's bias. Neither time nor
    memory depends on the values.
    """
    names = list(standin.shapes)
    array = np.empty(standin.shapes[name], np.float32)
    flat = array.reshape(-1)
    bound = _bound(name, array.shape)

    def fill(block: int) -> None:
        piece = flat[block * _BLOCK : (block + 1) * _BLOCK]
        stream = np.random.SFC64([_SEED, standin.scale, names.index(name), block])
        np.random.Generator(stream).random(out=piece, dtype=np.float32)
        piece -= np.float32(0.5)
        piece *= np.float32(2 * bound)

    # NumPy lets other threads run while it draws
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        list(pool.map(fill, range(-(-flat.size // _BLOCK))))
    return array


def _bound(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) == 1:
        return 0.1
    # variance 1 / fan-in; twice that behind a ReLU, which drops half
    gain = 6.0 if name.startswith("head") and not name.startswith("head.0") else 3.0
    return math.sqrt(gain / shape[1])


def golden(standin: Standin) -> dict[str, np.ndarray]:
    """Samples as `PolicyStep` takes them.

    Returns:
        `pixels` float32 [SAMPLES, 1, pixels], standard normal; `state` float32 [SAMPLES, layers, hidden], zeros,
        for engines that take it; `actions` float32 [SAMPLES, 1, 2] of `reference`.
    """
    rng = np.random.default_rng([_SEED, standin.scale])
    pixels = rng.standard_normal((SAMPLES, 1, standin.pixels), dtype=np.float32)
    return {
        PIXELS: pixels,
        STATE: np.zeros((SAMPLES, standin.layers, standin.hidden), np.float32),
        ACTIONS: reference(standin, pixels).astype(np.float32),
    }


def reference(standin: Standin, pixels: np.ndarray) -> np.ndarray:
    """The forward pass in NumPy, in float64 on the float32 weights, sharing no line with the backends.

    Args:
        standin: which size.
        pixels: [N, 1, pixels].

    Returns:
        Actions, float64 [N, 1, 2].
    """
    values = _linear(standin, "embed.{}", pixels[:, 0].astype(np.float64))
    for layer in range(standin.layers):
        # sequence 1 from a zero state: the recurrent weights meet only zeros, their bias is still added
        fed = _linear(standin, f"rnn.{{}}_ih_l{layer}", values)
        values = np.tanh(fed + weight(standin, f"rnn.bias_hh_l{layer}"))
    for at in range(len(standin.head) - 1):
        values = _linear(standin, f"head.{2 * at}.{{}}", np.maximum(values, 0.0) if at else values)
    return values[:, None]


def _linear(standin: Standin, name: str, values: np.ndarray) -> np.ndarray:
    """Rows a few at a time: the largest matrix would take 2.5 GB in float64."""
    weights = weight(standin, name.format("weight"))
    rows = range(0, len(weights), _REFERENCE_ROWS)
    parts = [values @ weights[row : row + _REFERENCE_ROWS].T.astype(np.float64) for row in rows]
    return np.concatenate(parts, axis=1) + weight(standin, name.format("bias"))
