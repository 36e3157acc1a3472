"""A foreign family that carries state: the toy's linear layer, plus half of what it answered before, bounded.

`memory` float32 [1, B, 6] goes in, `memory_out` comes back. Tests import it with the toy's folder on the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from toy_family import JOINTS, LAYER, STEPS, Toy, ToyFamily, ToySettings

from vla_edge.export.family import GraphRequest, Prompts, Surroundings
from vla_edge.export.graph.layers import Builder
from vla_edge.export.graph.parameters import Parameters
from vla_edge.export.graph.writer import GraphWriter, Value
from vla_edge.runtime.bundle.manifest import Runtime

SIZE = STEPS * len(JOINTS)
KEPT = 0.5


class Remembering(torch.nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.joints = torch.nn.Linear(3 * side**2, SIZE)

    def forward(self, pixel_values: torch.Tensor, memory: torch.Tensor) -> dict[str, torch.Tensor]:
        joints = self.joints(pixel_values.flatten(1)) + KEPT * memory[0]
        return {"actions": joints.reshape(-1, STEPS, len(JOINTS)), "memory_out": torch.tanh(joints)[None]}


class RememberingFamily(ToyFamily):
    """Complete and right; tests derive what leaves something out from it."""

    name = "remembering"

    def empty(self, architecture: Toy, settings: ToySettings, fused: bool = False) -> torch.nn.Module:
        with torch.device("meta"):
            return Remembering(architecture.side)

    def surroundings(self, architecture: Toy, settings: ToySettings) -> Surroundings:
        around = super().surroundings(architecture, settings)
        return replace(around, runtime=Runtime(frame="current", state=(("memory", "memory_out"),)))

    def golden_inputs(
        self, architecture: Toy, settings: ToySettings, prompts: Prompts | None, count: int
    ) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {"memory": rng.uniform(-0.9, 0.9, (count, 1, SIZE)).astype(np.float32)}

    def reference_inputs(
        self, settings: Any, golden: Mapping[str, np.ndarray], at: int
    ) -> dict[str, torch.Tensor]:
        given = super().reference_inputs(settings, golden, at)
        return {**given, "memory": torch.from_numpy(golden["memory"][at])[:, None]}

    def graph(self, request: GraphRequest) -> GraphWriter:
        graph, side, batch = GraphWriter(), request.architecture.side, request.batch
        builder = Builder(graph, Parameters(request.tensors), request.precision)
        pixels = graph.input("pixel_values", "float32", (batch, 3, side, side))
        memory = graph.input("memory", "float32", (1, batch, SIZE))
        flat = graph.reshape(pixels, (batch, 3 * side**2))
        seen = graph.cast(builder.linear(flat, [builder.params.linear(LAYER)], LAYER), "float32")
        kept = graph.mul(graph.reshape(memory, (batch, SIZE)), graph.scalar(KEPT, "float32"))
        joints = graph.add(seen, kept)
        self.write_memory(graph, graph.reshape(graph.unary("Tanh", joints), (1, batch, SIZE)))
        graph.stage("action", graph.output("actions", graph.reshape(joints, (batch, STEPS, len(JOINTS)))))
        return graph

    def write_memory(self, graph: GraphWriter, memory: Value) -> None:
        graph.stage("memory_out", graph.output("memory_out", memory))


FAMILY = RememberingFamily()
