"""Stages of the PyTorch policy, timed at the borders of its modules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vla_edge.bench.report.types import Profile

from .stages import OTHER, WARMUP_RUNS, Stages

if TYPE_CHECKING:
    from torch import nn

_FORWARD = "forward"
Mark = Any
Span = tuple[str, Mark, Mark]


def profile_torch(
    policy: nn.Module,
    run: Callable[[], object],
    device: str,
    runs: int,
    stages: Stages,
    called_alone: Collection[str] = (),
) -> Profile:
    """Time the policy's stages in `run`: on a GPU between CUDA events, on a CPU by the clock.

    The total is the whole forward pass, without copies; what no module of a stage does (such as splicing an image
    into a prompt, pooling, concatenation) is "other". A stage's time on a GPU holds the waits for
    the host in it, as a step's does. Not for a captured or compiled policy, which calls no hooks.

    Args:
        policy: on `device`; its hooks are removed at the end.
        run: one step that calls the policy once.
        device: "cpu" or "cuda".
        runs: at least 1.
        stages: of the policy's family.
        called_alone: modules inside a stage's that the policy also calls by themselves.
    """
    on_gpu = device == "cuda"
    mark = _event if on_gpu else time.perf_counter_ns
    spans: list[Span] = []
    parts, whole = _Borders(mark, spans), _Borders(mark, spans)
    with ExitStack() as hooks:
        whole.watch(policy, _FORWARD, hooks)
        for name, module in policy.named_modules():
            first = stages.of(name) != OTHER and stages.of(name.rpartition(".")[0]) == OTHER
            if first or name in called_alone:
                parts.watch(module, stages.of(name), hooks)
        for _ in range(WARMUP_RUNS):
            run()
        spans.clear()
        for _ in range(runs):
            run()
    totals_ms: dict[str, float] = defaultdict(float)
    for stage, begin, end in spans:
        totals_ms[stage] += _elapsed_ms(begin, end) / runs
    total_ms = totals_ms.pop(_FORWARD, 0.0)
    return stages.profile_of_stages("torch-events" if on_gpu else "torch-clock", runs, total_ms, totals_ms)


def _event() -> Mark:
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _elapsed_ms(begin: Mark, end: Mark) -> float:
    if isinstance(end, int):
        return (end - begin) / 1e6
    end.synchronize()
    return float(begin.elapsed_time(end))


class _Borders:
    """Notes when the outermost of the modules begins and ends: stages do not nest."""

    def __init__(self, mark: Callable[[], Mark], spans: list[Span]) -> None:
        self._mark = mark
        self._spans = spans
        self._depth = 0
        self._begin: Mark = None

    def watch(self, module: nn.Module, stage: str, hooks: ExitStack) -> None:
        """Hook on to a module, until the stack is closed."""

        def enter(*_: object) -> None:
            if self._depth == 0:
                self._begin = self._mark()
            self._depth += 1

        def leave(*_: object) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._spans.append((stage, self._begin, self._mark()))

        hooks.callback(module.register_forward_pre_hook(enter).remove)
        hooks.callback(module.register_forward_hook(leave).remove)
