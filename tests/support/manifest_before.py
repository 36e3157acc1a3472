"""Manifests as schema version 1 wrote them, from today's: for tests that what was exported before still works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, Manifest
from vla_edge.runtime.bundle.manifest_file import decode

_METRICS = {"max_abs": "max_abs_mps", "relative_l2": "relative_l2"}


def as_version_1(manifest: Manifest) -> dict[str, Any]:
    """The fields of `manifest.json`, less what version 1 could not say."""
    fields = json.loads(msgspec.json.encode(manifest))
    action, parity = fields["action"], fields["parity"]
    for tensor in fields["inputs"] + fields["outputs"]:
        del tensor["role"]
    (unit,) = set(action["units"])
    fields["action"] = {**_without(action, "units"), "unit": unit}
    for gate in parity["gates"]:
        gate["metric"] = _METRICS[gate["metric"]]
    fields["parity"] = {**_without(parity, "max_abs"), "max_abs_mps": parity["max_abs"]}
    return {**_without(fields, "architecture", "cuts"), "schema_version": 1}


def rewrite_as_version_1(folder: Path) -> None:
    """Turn a bundle's manifest into what version 1 would have written."""
    path = folder / MANIFEST_NAME
    fields = as_version_1(decode(path.read_bytes()))
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=1), encoding="utf-8")


def _without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
