"""A camera's frame to pixel values as nodes of a graph: to the byte what Pillow's `Image.resize` makes of it.

`Image.resize` of bytes is two passes, one along rows and one along columns, each a sum of neighbours with fixed
weights, rounded to a byte. A pass is thus a product with one fixed matrix. The weights are those of Pillow
(src/libImaging/Resample.c: `precompute_coeffs`, `normalize_coeffs_8bpc`): computed in double, then cut to 22 bits
behind the point.

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

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import PIL

from vla_edge.runtime.bundle.manifest import Preprocessing

from .writer import GraphWriter, Value

SCOPE = "camera"
_WEIGHT_BITS = 22  # of Pillow's weights behind the point
_HIGH_BITS = 15  # 255 * (sum of |weights| < 2) < 2**9, and FP32 holds 24 bits


def write_frame(
    graph: GraphWriter,
    frame: Value,
    preprocessing: Preprocessing,
    channels: Literal["rgb", "bgr"],
    name: str = "pixel_values",
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
        planes = graph.transpose(graph.cast(frame, "float32"), (0, 3, 1, 2))
        passes = [_along_rows, _along_columns]
        if not _rows_first(frame.shape[1:3], (preprocessing.height, preprocessing.width)):
            passes.reverse()
        for along in passes:
            planes = along(graph, planes, preprocessing)
        if channels == "bgr":  # at the small end, where it is one kernel with the normalisation
            order = graph.constant(np.array([2, 1, 0], np.int64))
            planes = graph.node("Gather", [planes, order], planes.dtype, planes.shape, axis=1)
        return graph.alias(name, _normalised(graph, planes, preprocessing))


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


def _rows_first(size: Sequence[int], target: tuple[int, int]) -> bool:
    """Which pass Pillow begins with: heights and widths before and after."""
    lower, narrower = size[0] - target[0], size[1] - target[1]
    return int(PIL.__version__.partition(".")[0]) < 13 or not (lower > 0 and lower > 2 * narrower)


def _along_rows(graph: GraphWriter, planes: Value, spec: Preprocessing) -> Value:
    """[.., H, W] -> [.., H, w]; as Pillow does, nothing where the size stays."""
    size, target = planes.shape[-1], spec.width
    if size == target:
        return planes
    matrix = _matrix(graph, "columns", spec.resample, size, target, transposed=True)
    return _bytes(graph, graph.matmul(planes, matrix), -1, spec.resample)


def _along_columns(graph: GraphWriter, planes: Value, spec: Preprocessing) -> Value:
    """[.., H, W] -> [.., h, W]; as Pillow does, nothing where the size stays."""
    size, target = planes.shape[-2], spec.height
    if size == target:
        return planes
    matrix = _matrix(graph, "rows", spec.resample, size, target, transposed=False)
    return _bytes(graph, graph.matmul(matrix, planes), -2, spec.resample)


def _matrix(graph: GraphWriter, axis: str, kind: str, size: int, target: int, transposed: bool) -> Value:
    """The high bits of the weights, below them the low ones: [2 * target, size], or transposed."""

    def load() -> np.ndarray:
        weights = resize_matrix(kind, size, target)
        high = np.round(weights * (1 << _HIGH_BITS)) / (1 << _HIGH_BITS)
        matrix = np.concatenate([high, weights - high]).astype(np.float32)
        return np.ascontiguousarray(matrix.T if transposed else matrix)

    shape = (size, 2 * target) if transposed else (2 * target, size)
    return graph.weight(f"{SCOPE}/{axis}", "float32", shape, load)


def _bytes(graph: GraphWriter, sums: Value, axis: int, kind: str) -> Value:
    """From the sums of high bits and those of low ones, behind each other on an axis, to levels of 0 to 255.

    Pillow's floor(high + low + 0.5), of which FP32 would not hold the argument: so first that of the high sum,
    then that of its rest and the low sum.
    """
    axis %= len(sums.shape)
    target = sums.shape[axis] // 2
    high, low = (graph.slice(sums, axis, at * target, (at + 1) * target) for at in range(2))
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
