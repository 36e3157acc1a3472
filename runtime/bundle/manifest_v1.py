"""Schema version 1 of a manifest, written until November 2026: its types as they were, and what they are today.

Version 1 knew one family of policies: its stages and layouts by name, "m/s" for every component, and inputs by the
names that its graphs gave them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from . import manifest as now

_StageName = Literal["vision", "text", "clip", "fusion", "action"]
_INPUT_ROLES: dict[str, now.InputRole] = {
    "pixel_values": "pixels",
    "input_ids": "token_ids",
    "attention_mask": "attention_mask",
    "instruction_index": "instruction_index",
}
_ACTIONS = "actions"
_METRICS: dict[str, now.Metric] = {"relative_l2": "relative_l2", "max_abs_mps": "max_abs"}


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Source(now.Source, frozen=True):
    layout: Literal["pure", "hybrid-a", "hybrid-b", "hybrid-c"]


class _Stage(now.Stage, frozen=True):
    name: _StageName


class _ActionSpec(_Base, frozen=True):
    names: Annotated[tuple[now.Name, ...], Meta(min_length=1, max_length=64)]
    unit: Literal["m/s"]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    limit: tuple[Annotated[float, Meta(gt=0)], ...]


class _Gate(_Base, frozen=True):
    stage: _StageName
    metric: Literal["relative_l2", "max_abs_mps"]
    limit: Annotated[float, Meta(gt=0)]


class _StageError(now.StageError, frozen=True):
    stage: _StageName


class _Parity(_Base, frozen=True):
    reference: str
    engine: str
    samples: Annotated[int, Meta(gt=0, le=1 << 20)]
    gates: Annotated[tuple[_Gate, ...], Meta(max_length=32)]
    errors: Annotated[tuple[_StageError, ...], Meta(max_length=now.MAX_LISTED)]
    max_abs_mps: float


class ManifestV1(_Base, frozen=True):
    """`manifest.json` as version 1 specified it."""

    schema_version: Literal[1]
    name: now.Name
    created_utc: now.Name
    source: _Source
    settings: now.Settings
    inputs: Annotated[tuple[now.TensorSpec, ...], Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[now.TensorSpec, ...], Meta(min_length=1, max_length=64)]
    stages: Annotated[tuple[_Stage, ...], Meta(max_length=64)]
    preprocessing: now.Preprocessing
    prompt: now.Prompt
    instructions: Annotated[tuple[now.Instruction, ...], Meta(min_length=1, max_length=now.MAX_INSTRUCTIONS)]
    default_instruction: now.Name
    runtime: now.Runtime
    action: _ActionSpec
    precision: now.Precision
    parity: _Parity
    tools: now.Tools
    files: Annotated[tuple[now.FileEntry, ...], Meta(max_length=64)]


def decode(data: bytes) -> now.Manifest:
    """A manifest of version 1, as version 2 says the same.

    Raises:
        msgspec.ValidationError: it is not what version 1 specified.
    """
    return upgraded(msgspec.json.decode(data, type=ManifestV1))


def upgraded(old: ManifestV1) -> now.Manifest:
    """Roles from the names of tensors, the one unit for every component, and nothing that was not recorded."""
    same = {field: getattr(old, field) for field in _UNCHANGED}
    sources = {source for source, _ in old.runtime.state}
    targets = {target for _, target in old.runtime.state}
    return now.Manifest(
        schema_version=now.SCHEMA_VERSION,
        source=now.Source(**msgspec.structs.asdict(old.source)),
        architecture=None,
        inputs=tuple(_input(tensor, sources) for tensor in old.inputs),
        outputs=tuple(_output(tensor, targets) for tensor in old.outputs),
        stages=tuple(now.Stage(**msgspec.structs.asdict(stage)) for stage in old.stages),
        cuts=(),
        action=_action(old.action),
        parity=_parity(old.parity),
        **same,
    )


_UNCHANGED = (
    "name",
    "created_utc",
    "settings",
    "preprocessing",
    "prompt",
    "instructions",
    "default_instruction",
    "runtime",
    "precision",
    "tools",
    "files",
)


def _input(tensor: now.TensorSpec, states: set[str]) -> now.Input:
    role = _INPUT_ROLES.get(tensor.name, "state" if tensor.name in states else "other")
    return now.Input(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, role=role)


def _output(tensor: now.TensorSpec, states: set[str]) -> now.Output:
    role: now.OutputRole = "state" if tensor.name in states else "other"
    role = "actions" if tensor.name == _ACTIONS else role
    return now.Output(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, role=role)


def _action(old: _ActionSpec) -> now.ActionSpec:
    return now.ActionSpec(
        names=old.names,
        units=(old.unit,) * len(old.names),
        scale=old.scale,
        offset=old.offset,
        limit=old.limit,
    )


def _parity(old: _Parity) -> now.Parity:
    return now.Parity(
        reference=old.reference,
        engine=old.engine,
        samples=old.samples,
        gates=tuple(
            now.Gate(stage=gate.stage, metric=_METRICS[gate.metric], limit=gate.limit) for gate in old.gates
        ),
        errors=tuple(now.StageError(**msgspec.structs.asdict(error)) for error in old.errors),
        max_abs=old.max_abs_mps,
    )
