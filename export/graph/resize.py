"""A camera's frame to pixel values as nodes of a graph: to the byte what Pillow's `Image.resize` makes of it.

`Image.resize` of bytes is two passes, one along rows and one along columns, each a sum of neighbours with fixed
weights, rounded to a byte. A pass is thus a product with one fixed matrix. The weights are those of Pillow
(src/libImaging/Resample.c: `precompute_coeffs`, `normalize_coeffs_8bpc`): computed in double, then cut to 22 bits
behind the point.

Of a matrix only a band along the diagonal is not zero. So results are made in blocks of a few, each from its own
window of pixels: on an H100 half the time of the whole matrix for a frame of 720x1280, and a seventh of the arithmetic,
which counts on a Jetson.

Pillow adds integers, and many sums of a resize lie so close to a half that FP32 would round them to the other
side, all along an edge. So each matrix is the sum of two, of 15 bits behind the point and of what is left: both
products are then sums of multiples of a power of two that FP32 holds without rounding, in whatever order an engine
adds them. Every engine gives the same bytes.

The order of the passes is Pillow's, too: behind a filter with negative weights, a byte between the passes can clip
far more than one level. Rows come first, but in Pillow 13 not where the height shrinks by more than twice what the
width does (`ImagingResampleInner`), as of a camera that stands upright. The order is that of the Pillow that is
installed, which prepares the pixels of the reference that the graph is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import PIL

from vla_edge.runtime.bundle.manifest import Channels, Preprocessing

from .writer import GraphWriter, Value

SCOPE = "camera"
_WEIGHT_BITS = 22  # of Pillow's weights behind the point
_BLOCK = 14  # results that share a window; for 1280 pixels to 224 one of 93
_HIGH_BITS = 15  # 255 * (sum of |weights| < 2) < 2**9, and FP32 holds 24 bits


def write_frame(
    graph: GraphWriter,
    frame: Value,
    preprocessing: Preprocessing,
    channels: Channels,
    name: str,
) -> Value:
    """Resize and normalise frames, each to the byte as Pillow's `Image.resize` does.

    Args:
        graph: is written to.
        frame: uint8 [B, H, W, 3].
        preprocessing: target size, filter, scale, mean and std.
        channels: the order of the frame's channels; the result is RGB.
        name: of the result. With the name that the input of pixels has in a graph without a camera, what
            follows is the same part in both.

    Returns:
        float32 [B, 3, h, w]: ((level * scale) - mean) / std.
    """
    with graph.scope(SCOPE):
        # TensorRT takes bytes as an input that is cast, and for nothing else.
        x = graph.cast(frame, "float32")
        if frame.shape[2] != preprocessing.width and _rows_first(frame.shape[1:3], preprocessing):
            x = _along_columns(graph, _along_rows(graph, x, preprocessing, axis=2), preprocessing)
        else:
            x = _along_columns(graph, graph.transpose(x, (0, 3, 1, 2)), preprocessing)
            x = _along_rows(graph, x, preprocessing, axis=3)
        if channels == "bgr":  # at the small end, where it is one kernel with the normalisation
            order = graph.constant(np.array([2, 1, 0], np.int64))
            x = graph.node("Gather", [x, order], x.dtype, x.shape, axis=1)
        return graph.alias(name, _normalised(graph, x, preprocessing))


def resize_matrix(kind: str, size: int, target: int) -> np.ndarray:
    """Pillow's weights of one pass: what each of `target` results takes of each of `size` pixels.

    Args:
        kind: "bilinear", "bicubic" or "lanczos".
        size: pixels along the axis.
        target: the same after the pass.

    Returns:
        float32 [target, size], multiples of 2^-22.
    """
    weigh, reach = _FILTERS[kind]
    scale = size / target
    stretch = max(scale, 1.0)  # shrinking widens the filter: that is the antialiasing
    support = reach * stretch
    matrix = np.zeros((target, size))
    for at in range(target):
        center = (at + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), size)
        weights = weigh((np.arange(first, last) - center + 0.5) * (1 / stretch))
        matrix[at, first:last] = weights / weights.sum()
    one = 1 << _WEIGHT_BITS
    return (np.trunc(matrix * one + np.copysign(0.5, matrix)) / one).astype(np.float32)


def _rows_first(size: Sequence[int], spec: Preprocessing) -> bool:
    """Which pass Pillow begins with, of a height and width."""
    lower, narrower = size[0] - spec.height, size[1] - spec.width
    return int(PIL.__version__.partition(".")[0]) < 13 or not (lower > 0 and lower > 2 * narrower)


def _along_rows(graph: GraphWriter, x: Value, spec: Preprocessing, axis: int) -> Value:
    """[B, H, W, 3] for axis 2, or [B, 3, H, W] for axis 3 -> [B, 3, H, w]; as Pillow does, nothing for w = W."""
    if x.shape[axis] == spec.width:
        return x
    across = _Windows("columns", spec.resample, x.shape[axis], spec.width)
    windows = across.gather(graph, x, axis)
    windows = graph.transpose(windows, (2, 0, 4, 1, 3) if axis == 2 else (3, 0, 1, 2, 4))
    blocks, *lines, length = windows.shape
    windows = graph.reshape(windows, (blocks, math.prod(lines), length))
    matrix = across.weight(graph, (0, 2, 1))
    levels = _levels(graph, graph.matmul(windows, matrix), 2, spec.resample)
    levels = graph.transpose(graph.reshape(levels, (blocks, *lines, _BLOCK)), (1, 2, 3, 0, 4))
    return graph.slice(graph.reshape(levels, (*lines, blocks * _BLOCK)), 3, 0, spec.width)


def _along_columns(graph: GraphWriter, planes: Value, spec: Preprocessing) -> Value:
    """[B, 3, H, W] -> [B, 3, h, W]; as Pillow does, nothing for h = H."""
    if planes.shape[2] == spec.height:
        return planes
    down = _Windows("rows", spec.resample, planes.shape[2], spec.height)
    sums = graph.matmul(down.weight(graph, (0, 1, 2)), down.gather(graph, planes, 2))
    levels = _levels(graph, sums, 3, spec.resample)
    batch, colours, blocks, _, width = levels.shape
    levels = graph.reshape(levels, (batch, colours, blocks * _BLOCK, width))
    return graph.slice(levels, 2, 0, spec.height)


class _Windows:
    """The matrix of a pass as blocks of `_BLOCK` results, zeros behind the last, each with its window of pixels."""

    def __init__(self, name: str, kind: str, size: int, target: int) -> None:
        self._name = f"{SCOPE}/{name}"
        self._kind, self._size, self._target = kind, size, target
        self._blocks = -(-target // _BLOCK)
        used = [np.flatnonzero(block.any(axis=0)) for block in self._parts()]
        self._length = max(int(at[-1] - at[0]) + 1 for at in used)
        self._starts = [min(int(at[0]), size - self._length) for at in used]

    def gather(self, graph: GraphWriter, x: Value, axis: int) -> Value:
        """All windows, [.., blocks, length, ..] for the axis."""
        index = np.array(self._starts)[:, None] + np.arange(self._length)
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        places = graph.weight(f"{self._name}.places", "int32", index.shape, lambda: index.astype(np.int32))
        return graph.node("Gather", [x, places], x.dtype, shape, axis=axis)

    def weight(self, graph: GraphWriter, perm: tuple[int, int, int]) -> Value:
        """[blocks, 2 * _BLOCK, length], permuted: of each block the high bits of its weights, then the low ones."""
        shape = (self._blocks, 2 * _BLOCK, self._length)
        permuted = tuple(shape[at] for at in perm)
        return graph.weight(
            f"{self._name}.weights", "float32", permuted, lambda: self._halves().transpose(perm).copy()
        )

    def _halves(self) -> np.ndarray:
        inside = [
            block[:, start : start + self._length]
            for block, start in zip(self._parts(), self._starts, strict=True)
        ]
        weights = np.stack(inside)
        high = np.round(weights * (1 << _HIGH_BITS)) / (1 << _HIGH_BITS)
        return np.concatenate([high, weights - high], axis=1).astype(np.float32)

    def _parts(self) -> np.ndarray:
        """[blocks, _BLOCK, size]."""
        matrix = resize_matrix(self._kind, self._size, self._target)
        padded = np.zeros((self._blocks * _BLOCK, self._size), np.float32)
        padded[: self._target] = matrix
        return padded.reshape(self._blocks, _BLOCK, self._size)


def _levels(graph: GraphWriter, sums: Value, axis: int, kind: str) -> Value:
    """From the sums of high bits and those of low ones, behind each other on an axis, to levels of 0 to 255.

    Pillow's floor(high + low + 0.5), of which FP32 would not hold the argument: so first that of the high sum,
    then that of its rest and the low sum.
    """
    high, low = (graph.slice(sums, axis, at * _BLOCK, (at + 1) * _BLOCK) for at in range(2))
    raised = graph.add(high, graph.scalar(0.5, high.dtype))
    whole = graph.unary("Floor", raised)
    rest = graph.add(graph.binary("Sub", raised, whole), low)
    levels = graph.add(whole, graph.unary("Floor", rest))
    if kind == "bilinear":
        return levels
    # Sums of negative weights may leave the range.
    bounds = (graph.scalar(level, levels.dtype) for level in (0, 255))
    return graph.node("Clip", [levels, *bounds], levels.dtype, levels.shape)


def _normalised(graph: GraphWriter, planes: Value, spec: Preprocessing) -> Value:
    mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    gain, offset = (graph.constant(array.astype(np.float32)) for array in (spec.scale / std, -mean / std))
    return graph.add(graph.mul(planes, gain), offset)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _bicubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray, lobes: int) -> np.ndarray:
    return np.where((-lobes <= x) & (x < lobes), np.sinc(x) * np.sinc(x / lobes), 0)


_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (partial(_lanczos, lobes=3), 3.0),
}
