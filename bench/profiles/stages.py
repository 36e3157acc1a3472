"""The stages of a policy in a profile, and what is told of each layer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vla_edge.bench.report.types import LayerTime, Profile, StageTime

Source = Literal["tensorrt-profiler", "onnxruntime-profile", "torch-events", "torch-clock"]
OTHER = "other"
TOP_LAYERS = 20
WARMUP_RUNS = 3
MAX_NAME = 160  # fused layers are named after everything in them
_RANGE = "..."  # TensorRT names a region after its first and last node: {ForeignNode[a...b]}


@dataclass(frozen=True)
class Layer:
    """One layer of an engine under its profiler.

    Attributes:
        name: as the profiler reports it.
        ms: mean of a run.
        nodes: text with the names of the graph's nodes in it, where the engine tells; else empty.
    """

    name: str
    ms: float
    nodes: str = ""


class Stages:
    """The stages of one family of policies, told by names: of nodes, modules, and layers made of them.

    Args:
        patterns: by stage, in the order of the forward pass: a regular expression of how the names of its modules
            begin. Nodes of the graph and modules of the PyTorch policy are both named after them.
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self.names = tuple(patterns)
        groups = [f"(?P<stage{at}>{pattern})" for at, pattern in enumerate(patterns.values())]
        self._pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(groups) or '(?!)'})")

    def of(self, name: str) -> str:
        """The stage of a graph's node, a torch module, or a layer named after one or several of them.

        "other" where the name says nothing, or stands for so much that no one stage can be charged.
        """
        return self._find(name) or OTHER

    def profile_of_layers(self, source: Source, runs: int, layers: Sequence[Layer]) -> Profile:
        """A profile of layers in the order in which they ran; their sum is the total.

        A layer's stage is that of its nodes, else of its name. One that tells nothing belongs to the stage of
        its neighbours, if both sides agree: compilers name kernels after their operations.
        """
        told = _fill([self._find(layer.nodes) or self._find(layer.name) for layer in layers])
        total_ms = sum(layer.ms for layer in layers)
        by_stage: dict[str, float] = defaultdict(float)
        for layer, stage in zip(layers, told, strict=True):
            by_stage[stage] += layer.ms
        slowest = sorted(zip(layers, told, strict=True), key=lambda pair: -pair[0].ms)[:TOP_LAYERS]
        return Profile(
            source=source,
            runs=runs,
            total_ms=total_ms,
            layers_total=len(layers),
            stages=self._times(by_stage, total_ms),
            layers=tuple(
                LayerTime(
                    name=_readable(layer.name), stage=stage, ms=layer.ms, share=_share(layer.ms, total_ms)
                )
                for layer, stage in slowest
            ),
        )

    def profile_of_stages(
        self, source: Source, runs: int, total_ms: float, stage_ms: Mapping[str, float]
    ) -> Profile:
        """A profile without layers; what the stages leave of the total is "other"."""
        rest_ms = max(0.0, total_ms - sum(stage_ms.values()))
        stages = self._times({**stage_ms, OTHER: rest_ms}, total_ms)
        return Profile(source=source, runs=runs, total_ms=total_ms, layers_total=0, stages=stages, layers=())

    def _find(self, text: str) -> str | None:
        """None where nothing is named. Two stages meet in a fused kernel, and the larger part has it; three or
        more, or a range from one stage to another, are a region of the graph that says nothing of its parts."""
        groups = Counter(match.lastgroup or "" for match in self._pattern.finditer(text))
        if not groups:
            return None
        if len(groups) > 2 or (len(groups) == 2 and _RANGE in text):
            return OTHER
        return self.names[int(groups.most_common(1)[0][0].removeprefix("stage"))]

    def _times(self, stage_ms: Mapping[str, float], total_ms: float) -> tuple[StageTime, ...]:
        return tuple(
            StageTime(stage=stage, ms=stage_ms[stage], share=_share(stage_ms[stage], total_ms))
            for stage in (*self.names, OTHER)
            if stage in stage_ms
        )


def _fill(stages: Sequence[str | None]) -> list[str]:
    before = _latest_known(stages)
    after = reversed(list(_latest_known(stages[::-1])))
    return [
        stage or (left if left is not None and left == right else OTHER)
        for stage, left, right in zip(stages, before, after, strict=True)
    ]


def _latest_known(stages: Sequence[str | None]) -> Iterator[str | None]:
    latest = None
    for stage in stages:
        latest = stage or latest
        yield latest


def _share(ms: float, total_ms: float) -> float:
    return ms / total_ms if total_ms > 0 else 0.0


def _readable(name: str) -> str:
    """A name for reports: without control characters, and no longer than a line or two."""
    text = "".join(letter if letter.isprintable() else " " for letter in name)
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"
