"""Where two bundles differ, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vla_edge.export.bundle.gates import judgements
from vla_edge.runtime.bundle.manifest import GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME, Manifest

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
    """What differs between two policies: files, checkpoint, settings, prompts, shapes, precision, errors, tools.

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
    for spec in (*manifest.inputs, *manifest.outputs):
        yield f"tensor {spec.name}", f"{spec.dtype} {list(spec.shape)}"
    yield "action units", list(manifest.action.units)
    yield "precision", manifest.precision.achieved
    yield "kept in float32", list(manifest.precision.float32_islands)
    for judged in judgements(manifest):
        yield f"error {judged.gate.stage}{judged.suffix}", judged.measured
        yield f"gate {judged.gate.stage}{judged.suffix}", judged.gate.limit
    for name, version in manifest.tools.items():
        yield f"made by {name}", version
