"""The manifest of a bundle that was just written."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vla_edge.export.checkpoint.checkpoint import Checkpoint
from vla_edge.export.family import Prompts, Surroundings
from vla_edge.export.graph.precision import Precision
from vla_edge.export.graph.writer import GraphWriter, Value
from vla_edge.export.settings.rules import ResolvedSettings
from vla_edge.runtime.bundle import manifest as schema
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from .parity import Measured

# What the format calls the inputs that a runtime fills.
_ROLES: Mapping[str, schema.InputRole] = {
    "pixel_values": "pixels",
    "frame": "frame",
    "input_ids": "token_ids",
    "attention_mask": "attention_mask",
    "instruction_index": "instruction_index",
}


@dataclass(frozen=True)
class Description:
    """What a manifest tells, beside what was measured.

    Attributes:
        name: of the bundle.
        checkpoint, settings, prompts, surroundings: of the policy.
        precision: as asked.
        graph: as written.
        camera: that it begins with, or None.
    """

    name: str
    checkpoint: Checkpoint
    settings: ResolvedSettings[Any]
    prompts: Prompts | None
    surroundings: Surroundings
    precision: Precision
    graph: GraphWriter
    camera: schema.Camera | None = None

    def manifest(
        self, parity: schema.Parity, files: Sequence[schema.FileEntry], source_sha256: str
    ) -> schema.Manifest:
        """The manifest of a bundle with these errors and files, from a checkpoint of this hash."""
        prompts, around = self.prompts, self.surroundings
        states = {name for pair in around.runtime.state for name in pair}
        return schema.Manifest(
            schema_version=schema.SCHEMA_VERSION,
            name=self.name,
            created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            source=_source(self.checkpoint, source_sha256),
            architecture=_architecture(self.checkpoint),
            settings=self.settings.for_manifest(),
            inputs=tuple(_input(value, states) for value in self.graph.inputs),
            outputs=tuple(_output(value, states) for value in self.graph.outputs),
            stages=stages_of(self.graph),
            cuts=cuts_of(self.graph),
            preprocessing=around.preprocessing,
            camera=self.camera,
            prompt=prompts.prompt if prompts else None,
            instructions=prompts.instructions if prompts else (),
            default_instruction=prompts.default_instruction if prompts else None,
            runtime=around.runtime,
            action=around.action,
            precision=schema.Precision(
                asked=self.precision.name,
                achieved=self.precision.name,
                weights_dtype=self.precision.matmul,
                float32_islands=self._islands(),
            ),
            parity=parity,
            tools=_tools(),
            files=tuple(files),
        )

    def _islands(self) -> tuple[str, ...]:
        if self.precision.matmul == "float32":
            return ()
        islands = self.checkpoint.family.float32_islands(self.graph, self.precision)
        return tuple(sorted({*islands, "camera"})) if self.camera else islands


def stages_of(graph: GraphWriter) -> tuple[schema.Stage, ...]:
    """The named intermediate values, in the order of the forward pass."""
    return tuple(
        schema.Stage(name=name, tensor=value.name, shape=value.shape) for name, value in graph.stages.items()
    )


def cuts_of(graph: GraphWriter) -> tuple[schema.Cut, ...]:
    """Where the graph may be cut, in the order of the forward pass."""
    return tuple(
        schema.Cut(name=name, tensors=tuple(_spec(value) for value in values))
        for name, values in graph.cuts.items()
    )


def parity_of(
    measured: Measured, samples: int, asked: tuple[schema.Gate, ...], origin: str = ""
) -> schema.Parity:
    """What was measured on that many golden samples, and the gates that it is held against.

    `origin` tells what the samples show, such as "frames of 10 of 72 episodes in kitchen"; "" of what is usual.
    """
    return schema.Parity(
        reference="PyTorch FP32 policy" + (f" on {origin}" if origin else ""),
        engine=measured.engine,
        samples=samples,
        gates=asked,
        errors=measured.errors,
        max_abs=measured.max_abs,
    )


def _architecture(checkpoint: Checkpoint) -> schema.Architecture:
    # by way of JSON, so that a manifest is equal to itself read back: tuples are lists there
    values = msgspec.json.decode(msgspec.json.encode(checkpoint.architecture))
    return schema.Architecture(family=checkpoint.family.name, values=values)


def _source(checkpoint: Checkpoint, sha256: str) -> schema.Source:
    return schema.Source(
        file=checkpoint.path.name,
        size_bytes=checkpoint.size_bytes,
        sha256=sha256,
        epoch=checkpoint.epoch,
        val_mae=checkpoint.val_mae,
        layout=checkpoint.layout,
        layout_reasons=checkpoint.recognised.reasons,
        parameters=sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values()),
        weights_origin=checkpoint.weights_origin,
        weights_key=checkpoint.state_dict_key,
        other_weights=checkpoint.other_weights,
    )


def _input(value: Value, states: set[str]) -> schema.Input:
    role = "state" if value.name in states else _ROLES.get(value.name, "other")
    return schema.Input(name=value.name, dtype=_dtype(value), shape=value.shape, role=role)


def _output(value: Value, states: set[str]) -> schema.Output:
    role: schema.OutputRole = "actions" if value.name == "actions" else "other"
    if value.name in states:
        role = "state"
    return schema.Output(name=value.name, dtype=_dtype(value), shape=value.shape, role=role)


def _spec(value: Value) -> schema.TensorSpec:
    return schema.TensorSpec(name=value.name, dtype=_dtype(value), shape=value.shape)


def _dtype(value: Value) -> Any:
    """One of those that a manifest takes; it is checked when the manifest is read back."""
    return value.dtype


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    tools = {name: version(name) for name in ("torch", "transformers", "onnx", "numpy", "pillow")}
    return {"vla-edge": VERSION, "python": platform.python_version(), **tools}
