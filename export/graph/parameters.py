"""From tensors of a checkpoint to the content of the graph's weights.

Each method returns a function without arguments that makes one array when the data file is written, so
that at no time more than one weight is held in memory. Content is checked in the same pass: NaN, infinity,
or a value that half precision cannot hold is an error that names the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vla_edge.runtime.errors import CheckpointError

HALF_MAX = 65504.0
Load = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Rows `start:stop` of a Linear's weight [out, in] and bias [out], times `scale`.

    A convolution's kernel [out, *window] counts as [out, numbers in a window].
    """

    weight: str
    bias: str
    start: int
    stop: int
    scale: float = 1.0

    @property
    def count(self) -> int:
        return self.stop - self.start

    def scaled(self, scale: float) -> Rows:
        return replace(self, scale=scale)


class Parameters:
    """Reads a state dict of float tensors, memory-mapped or not."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def linear(self, name: str) -> Rows:
        """All rows of the Linear called `name`."""
        return Rows(f"{name}.weight", f"{name}.bias", 0, self.shape(f"{name}.weight")[0])

    def thirds(self, weight: str, bias: str) -> tuple[Rows, Rows, Rows]:
        """Query, key and value rows of a merged projection."""
        width = self.shape(weight)[0] // 3
        q, k, v = (Rows(weight, bias, at * width, (at + 1) * width) for at in range(3))
        return q, k, v

    def matrix(self, parts: Sequence[Rows], dtype: str, height: int | None = None) -> Load:
        """Weights side by side as MatMul wants them: [in, sum of rows], with zeros below up to `height`."""

        def load() -> np.ndarray:
            flat = torch.cat([self._rows(part, part.weight, dtype) for part in parts]).flatten(1)
            if height is not None:
                flat = torch.nn.functional.pad(flat, (0, height - flat.shape[1]))
            # torch transposes four times as fast as NumPy copies a transposed view
            return flat.t().contiguous().numpy()

        return load

    def bias(self, parts: Sequence[Rows], dtype: str) -> Load:
        """Biases one after the other: [sum of rows]."""
        return lambda: torch.cat([self._rows(part, part.bias, dtype) for part in parts]).numpy()

    def plain(self, name: str, dtype: str, shape: Sequence[int] | None = None) -> Load:
        """The tensor as it is, reshaped."""
        return lambda: finish(self._get(name), dtype, name).reshape(tuple(shape or self.shape(name))).numpy()

    def rows(self, name: str, ids: Sequence[int], dtype: str) -> Load:
        """Chosen rows of a table: [len(ids), width]."""
        return lambda: finish(self._get(name)[torch.tensor(list(ids))], dtype, name).numpy()

    def folded(self, compute: Callable[[Callable[[str], Tensor]], Tensor], dtype: str, name: str) -> Load:
        """The result of arithmetic on tensors, done in FP32: `compute` is given a reader of tensors by name."""
        return lambda: finish(compute(self._get), dtype, name).numpy()

    def _rows(self, part: Rows, name: str, dtype: str) -> Tensor:
        return finish(self._get(name)[part.start : part.stop], dtype, name, part.scale)

    def _get(self, name: str) -> Tensor:
        tensor = self._tensors[name].detach()
        values = tensor.float()
        if tensor.dtype == torch.float64:
            _check_single(tensor, values, name)
        return values


def finish(tensor: Tensor, dtype: str, name: str, scale: float = 1.0) -> Tensor:
    """Scale, check and convert a tensor.

    Raises:
        CheckpointError: NaN or infinity, or beyond half's range where half is asked for.
    """
    if scale != 1.0:
        tensor = tensor * scale
    if tensor.numel():
        low, high = (float(bound) for bound in torch.aminmax(tensor))
        _check_range(low, high, tensor, dtype, name)
    return tensor.to(getattr(torch, dtype)).contiguous()


def _check_single(tensor: Tensor, values: Tensor, name: str) -> None:
    """Whether values that are finite in double precision are so in single, in which all work is done."""
    beyond = torch.isinf(values) & torch.isfinite(tensor)
    if bool(beyond.any()):
        raise CheckpointError(
            f"{name} holds {int(beyond.sum())} values beyond float32's {torch.finfo(torch.float32).max:.2e}, such as "
            f"{float(tensor[beyond][0]):.4g}.",
            "No trained weight is that large: the training run diverged or the file is damaged; take an earlier epoch.",
        )


def _check_range(low: float, high: float, tensor: Tensor, dtype: str, name: str) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~torch.isfinite(tensor)).sum())
        raise CheckpointError(
            f"{name} holds {count} values that are NaN or infinite.",
            "The training run diverged or the file is damaged: take an earlier epoch, or copy it again.",
        )
    if dtype == "float16" and max(-low, high) > HALF_MAX:
        raise CheckpointError(
            f"{name} holds {max(-low, high):.4g}, beyond half precision's {HALF_MAX:.0f}.",
            "Export it with --fp32.",
        )
