"""A family of policies in one file: a linear layer from pixels to three steps of two joints, in rad, without text.

A distribution of its own: this file and `toy_family.dist-info` in a folder of the path are all that an installed
package is to the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from vla_edge.export.family import Family, GateLimits, GraphRequest, Parts, Recognised, Surroundings
from vla_edge.export.family_samples import Shape
from vla_edge.export.settings.rules import SettingRules
from vla_edge.runtime.bundle.manifest import ActionSpec, Preprocessing, Runtime
from vla_edge.runtime.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from vla_edge.export.graph.writer import GraphWriter

JOINTS = ("pan", "tilt")
STEPS = 3
LAYER = "joints"


@dataclass(frozen=True)
class Toy:
    """Images of side x side pixels."""

    side: int


class ToySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """An output of 1 stands for so many rad."""

    reach_rad: float = 0.5


class ToyFamily(Family):
    """A linear layer on the pixels."""

    name = "toy"
    parts = Parts(own=(f"{LAYER}.",))
    architecture = Toy
    settings = SettingRules(ToySettings, standing={"reach_rad": "exact: the joints' own range"})
    # half a degree is what its joints have in play
    gates: ClassVar[Mapping[str, GateLimits]] = {
        "fp16": GateLimits(stage=0.03, action=0.01),
        "fp32": GateLimits(stage=1e-3, action=1e-3),
    }

    def recognise(self, shapes: Mapping[str, Shape]) -> Recognised:
        inputs = shapes.get(f"{LAYER}.weight", (0, 0))[-1]
        side, outputs = isqrt(inputs // 3), STEPS * len(JOINTS)
        if not side or shapes != {f"{LAYER}.weight": (outputs, 3 * side**2), f"{LAYER}.bias": (outputs,)}:
            raise CheckpointError(f"a toy has {LAYER}.weight and .bias of {outputs} rows.", "Give a toy.")
        return Recognised(Toy(side), "toy", (f"{LAYER}.weight reads an image of {side} x {side}",))

    def empty(self, architecture: Toy, settings: ToySettings, fused: bool = False) -> torch.nn.Module:
        import torch

        class Policy(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.joints = torch.nn.Linear(3 * architecture.side**2, STEPS * len(JOINTS))

            def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
                return {"actions": self.joints(pixel_values.flatten(1)).reshape(-1, STEPS, len(JOINTS))}

        with torch.device("meta"):
            return Policy()

    def surroundings(self, architecture: Toy, settings: ToySettings) -> Surroundings:
        side, size = architecture.side, len(JOINTS)
        return Surroundings(
            Preprocessing(
                height=side,
                width=side,
                color="rgb",
                fit="squash",
                resample="bilinear",
                antialias=True,
                scale=1 / 255,
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
            ),
            ActionSpec(
                names=JOINTS,
                units=("rad",) * size,
                scale=(settings.reach_rad,) * size,
                offset=(0.0,) * size,
                limit=(1.5,) * size,
            ),
            Runtime(frame="current", state=()),
        )

    def graph(self, request: GraphRequest) -> GraphWriter:
        from vla_edge.export.graph.layers import Builder
        from vla_edge.export.graph.parameters import Parameters
        from vla_edge.export.graph.writer import GraphWriter

        graph, side, batch = GraphWriter(), request.architecture.side, request.batch
        builder = Builder(graph, Parameters(request.tensors), request.precision)
        pixels = graph.input("pixel_values", "float32", (batch, 3, side, side))
        flat = graph.reshape(pixels, (batch, 3 * side**2))
        joints = graph.cast(builder.linear(flat, [builder.params.linear(LAYER)], LAYER), "float32")
        graph.stage("action", graph.output("actions", graph.reshape(joints, (batch, STEPS, len(JOINTS)))))
        return graph


FAMILY = ToyFamily()
