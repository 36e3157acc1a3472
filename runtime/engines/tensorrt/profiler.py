"""TensorRT's layer profiler, for benchmarks; no session has it attached while a robot runs."""

from __future__ import annotations

from functools import cache
from typing import Any


def layer_profiler(trt: Any) -> Any:
    """A new `trt.IProfiler`. Keep it as long as the context that it is attached to.

    `total_ms` sums the milliseconds of each layer over the runs so far, in the order in which layers ran.
    """
    return _profiler_class(trt)()


@cache
def _profiler_class(trt: Any) -> type:
    class LayerProfiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.total_ms: dict[str, float] = {}

        # the parameters' names are TensorRT's
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.total_ms[layer_name] = self.total_ms.get(layer_name, 0.0) + ms

    return LayerProfiler
