"""Write the weights of a graph to one data file, streaming.

One pass: each weight is read from the mapped checkpoint, converted, hashed and written, while the next is
being converted by another thread. At most a few weights are in memory at any time, and the disk, not a
serialiser, sets the pace.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from .writer import GraphError, Weight

PAGE_BYTES = 4096  # ONNX Runtime maps external data by pages
LARGE_BYTES = 1 << 20
SMALL_ALIGNMENT = 64
AHEAD = 3  # weights converted ahead of the writer

_ONNX_TYPE = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


@dataclass(frozen=True)
class DataFile:
    size_bytes: int
    sha256: str


def total_bytes(weights: Sequence[Weight]) -> int:
    """The size that the data file will have."""
    end = 0
    for weight in weights:
        end = _aligned(end, weight.size_bytes) + weight.size_bytes
    return end


def write_weights(
    model: onnx.ModelProto, weights: Sequence[Weight], path: Path, progress: Callable[[int], None]
) -> DataFile:
    """Write `path` and add to `model` an external initializer for each weight.

    Args:
        model: receives the initializers; its own file must lie in the folder of `path`.
        weights: in the order in which they are to lie in the file.
        path: the data file; it must not exist.
        progress: called with the number of bytes of each weight that was written.

    Raises:
        CheckpointError: a weight holds NaN, infinity, or more than its dtype holds.
        OSError: the disk is full or gone.
    """
    digest = hashlib.sha256()
    end = 0
    with path.open("xb") as file:
        for weight, array in _converted(weights):
            start = _aligned(end, weight.size_bytes)
            for piece in (bytes(start - end), memoryview(array).cast("B")):
                file.write(piece)
                digest.update(piece)
            end = start + weight.size_bytes
            model.graph.initializer.append(_external(weight, path.name, start))
            progress(weight.size_bytes)
        file.flush()
        os.fsync(file.fileno())
    return DataFile(end, digest.hexdigest())


def _converted(weights: Sequence[Weight]) -> Iterator[tuple[Weight, np.ndarray]]:
    """Run the recipes a few ahead in a thread (torch and NumPy release the interpreter while they work)."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="convert") as pool:
        pending: list[tuple[Weight, Future[np.ndarray]]] = []
        try:
            for weight in weights:
                pending.append((weight, pool.submit(_load_checked, weight)))
                if len(pending) > AHEAD:
                    ready, future = pending.pop(0)
                    yield ready, future.result()
            for ready, future in pending:
                yield ready, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _load_checked(weight: Weight) -> np.ndarray:
    array = np.ascontiguousarray(weight.load())
    if array.shape != weight.value.shape or str(array.dtype) != weight.value.dtype:
        found, declared = f"{array.dtype} {array.shape}", f"{weight.value.dtype} {weight.value.shape}"
        raise GraphError(f"weight {weight.value.name} is {found}, declared {declared}")
    return array


def _aligned(offset: int, size_bytes: int) -> int:
    step = PAGE_BYTES if size_bytes >= LARGE_BYTES else SMALL_ALIGNMENT
    return -(-offset // step) * step


def _external(weight: Weight, location: str, offset: int) -> TensorProto:
    value = weight.value
    tensor = TensorProto(name=value.name, data_type=_ONNX_TYPE[value.dtype], dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, content in (("location", location), ("offset", offset), ("length", weight.size_bytes)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(content)
    return tensor
