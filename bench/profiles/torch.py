"""Stages of the PyTorch policy, timed at the borders of its modules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from vla_edge.bench.report.types import Profile

from .stages import OTHER, WARMUP_RUNS, Source, profile_of_stages, stage_of

if TYPE_CHECKING:
    from torch import nn

# parts of a stage's module that the policy also calls by themselves
_CALLED_ALONE = (
    "kosmos_model.text_model.model.embed_tokens",
    "kosmos_model.vision_model.model.post_layernorm",
)
_FORWARD = "forward"
Mark = Any


def profile_torch(policy: nn.Module, run: Callable[[], object], device: str, runs: int) -> Profile:
    """Time the policy's stages in `run`: on a GPU between CUDA events, on a CPU by the clock.

    The total is the whole forward pass, without copies; what no module of a stage does (splicing the image
    into the prompt, pooling, concatenation) is "other". A stage's time on a GPU holds the waits for
    the host in it, as a step's does. Not for a captured or compiled policy, which calls no hooks.

    Args:
        policy: `vla_edge.export.kosmos2.reference.VlaPolicy`, on `device`; its hooks are removed at the end.
        run: one step that calls the policy once.
        device: "cpu" or "cuda".
        runs: at least 1.
    """
    clock = _CudaClock() if device == "cuda" else _CpuClock()
    spans: list[tuple[str, Mark, Mark]] = []
    with _hooks(policy, clock, spans):
        for _ in range(WARMUP_RUNS):
            run()
        spans.clear()
        for _ in range(runs):
            run()
    totals_ms: dict[str, float] = defaultdict(float)
    clock.wait()
    for stage, begin, end in spans:
        totals_ms[stage] += clock.elapsed_ms(begin, end) / runs
    total_ms = totals_ms.pop(_FORWARD, 0.0)
    return profile_of_stages(clock.source, runs, total_ms, totals_ms)


class _CpuClock:
    source: Source = "torch-clock"

    def mark(self) -> Mark:
        return time.perf_counter_ns()

    def wait(self) -> None:
        """Nothing is under way."""

    def elapsed_ms(self, begin: Mark, end: Mark) -> float:
        return float(end - begin) / 1e6


class _CudaClock:
    source: Source = "torch-events"

    def mark(self) -> Mark:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()

    def elapsed_ms(self, begin: Mark, end: Mark) -> float:
        return float(begin.elapsed_time(end))


class _Borders:
    """Notes when the outermost of the modules begins and ends: stages do not nest."""

    def __init__(self, clock: _CpuClock | _CudaClock, spans: list[tuple[str, Mark, Mark]]) -> None:
        self._clock = clock
        self._spans = spans
        self._depth = 0
        self._begin: Mark = None

    def enter(self, *_: object) -> None:
        if self._depth == 0:
            self._begin = self._clock.mark()
        self._depth += 1

    def leave(self, stage: str) -> Callable[..., None]:
        def left(*_: object) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._spans.append((stage, self._begin, self._clock.mark()))

        return left


@contextmanager
def _hooks(
    policy: nn.Module, clock: _CpuClock | _CudaClock, spans: list[tuple[str, Mark, Mark]]
) -> Iterator[None]:
    """Hooks on the policy itself and on its stages' modules, while inside."""
    stages, whole = _Borders(clock, spans), _Borders(clock, spans)
    modules = dict(policy.named_modules())
    with ExitStack() as attached:
        for name, module in modules.items():
            if name and not _begins_a_stage(name):
                continue
            borders, stage = (stages, stage_of(name)) if name else (whole, _FORWARD)
            attached.callback(module.register_forward_pre_hook(borders.enter).remove)
            attached.callback(module.register_forward_hook(borders.leave(stage)).remove)
        yield


def _begins_a_stage(name: str) -> bool:
    is_first = stage_of(name) != OTHER and stage_of(name.rpartition(".")[0]) == OTHER
    return is_first or name in _CALLED_ALONE
