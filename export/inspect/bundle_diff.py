"""Where two bundles differ, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from vla_edge.export.bundle.gates import judgements
from vla_edge.export.families import BUILT_IN
from vla_edge.runtime.bundle.manifest import GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME, Input, Manifest, Output

_MISSING = "not there"
_FILES = {MODEL_NAME: "graph SHA-256", WEIGHTS_NAME: "weights SHA-256", GOLDEN_NAME: "golden samples SHA-256"}
_SOURCE = {
    "file": "checkpoint",
    "sha256": "checkpoint SHA-256",
    "epoch": "epoch",
    "val_mae": "validation MAE",
    "layout": "layout",
    "parameters": "parameters",
    "weights_origin": "weights from",
}


@dataclass(frozen=True)
class Difference:
    """One field that differs; "not there" where only one of them has it."""

    field: str
    first: Any
    second: Any


def differences(first: Manifest, second: Manifest) -> tuple[Difference, ...]:
    """What differs between two policies: files, checkpoint, settings, prompts, shapes, what is around the graph,
    precision, errors, tools.

    Names and times of the two exports are not compared.
    """
    a, b = dict(_fields(first)), dict(_fields(second))
    return tuple(
        Difference(name, a.get(name, _MISSING), b.get(name, _MISSING))
        for name in dict.fromkeys((*a, *b))
        if a.get(name, _MISSING) != b.get(name, _MISSING)
    )


def _fields(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    hashes = {entry.path: entry.sha256 for entry in manifest.files}
    for path, title in _FILES.items():
        yield title, hashes.get(path, _MISSING)
    for name, title in _SOURCE.items():
        yield title, getattr(manifest.source, name)
    for name, setting in manifest.settings.items():
        yield f"setting {name}", setting.value
        yield f"setting {name}, chosen by", setting.origin
    yield "instructions", [instruction.text for instruction in manifest.instructions]
    yield "default instruction", manifest.default_instruction
    yield "prompt length", manifest.prompt.length if manifest.prompt else _MISSING
    yield "vocabulary", manifest.prompt.vocabulary if manifest.prompt else _MISSING
    tensors: tuple[Input | Output, ...] = (*manifest.inputs, *manifest.outputs)
    for spec in tensors:
        yield f"tensor {spec.name}", f"{spec.dtype} {list(spec.shape)}, {spec.role}"
    yield from _around(manifest)
    yield "precision", manifest.precision.achieved
    yield "kept in float32", list(manifest.precision.float32_islands)
    for judged in judgements(manifest):
        yield f"error {judged.gate.stage}{judged.suffix}", judged.measured
        yield f"gate {judged.gate.stage}{judged.suffix}", judged.gate.limit
    for name, version in manifest.tools.items():
        yield f"made by {name}", version


def _around(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """What turns frames into inputs and outputs into commands: a family may have it from nowhere but its own code."""
    yield "family", manifest.architecture.family if manifest.architecture else BUILT_IN
    for part, title in ((manifest.preprocessing, "preprocessing"), (manifest.action, "action")):
        for name, value in msgspec.structs.asdict(part).items():
            yield f"{title} {name}", list(value) if isinstance(value, tuple) else value
    yield "camera", str(manifest.camera) if manifest.camera else _MISSING
    yield "acts on frame", manifest.runtime.frame
    yield "carried state", [list(pair) for pair in manifest.runtime.state]
    yield "ids of instructions", [list(instruction.graph_ids) for instruction in manifest.instructions]
