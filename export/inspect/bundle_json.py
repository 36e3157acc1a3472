"""Bundles as `vla-inspect --json` prints them. Keys stay; new ones may come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_edge.export.bundle.gates import judgements
from vla_edge.export.screen import gates as gate_view
from vla_edge.runtime.bundle.finding import CURRENT, PREVIOUS
from vla_edge.runtime.bundle.manifest import Manifest, shared_unit
from vla_edge.runtime.command.json_text import plain

from .bundle import BundleReport
from .bundle_diff import Difference
from .machine import ThisMachine
from .plans.lines import PartLine, PlanLine


def bundle_json(report: BundleReport) -> dict[str, Any]:
    """One bundle; what its manifest would tell is null where that is not valid."""
    manifest = report.bundle.manifest if report.bundle else None
    return {
        "kind": "bundle",
        "folder": str(report.folder),
        "name": manifest.name if manifest else None,
        "sound": not report.all_problems,
        "problems": list(report.all_problems),
        "manifest_sha256": report.bundle.manifest_sha256 if report.bundle else None,
        "created_utc": manifest.created_utc if manifest else None,
        "checkpoint": plain(manifest.source) if manifest else None,
        "settings": {
            line.name: {
                "value": line.value,
                "certainty": line.certainty,
                "origin": line.origin,
                "standing": line.standing,
            }
            for line in report.settings
        },
        **_policy(manifest),
        "plans": [_plan(line) for line in report.plans],
        "here": plain(report.here),
        "files": plain(report.files),
        "unlisted": list(report.unlisted),
    }


def list_json(
    folder: Path, reports: Sequence[BundleReport], machine: ThisMachine, links: Mapping[str, str]
) -> dict[str, Any]:
    """Those of a folder; "current" and "previous" of a robot's name folders in it, and are null elsewhere."""
    return {
        "kind": "bundles",
        "folder": str(folder),
        "current": links.get(CURRENT),
        "previous": links.get(PREVIOUS),
        "machine": plain(machine),
        "bundles": [bundle_json(report) for report in reports],
    }


def comparison_json(reports: Sequence[BundleReport], found: Sequence[Difference]) -> dict[str, Any]:
    return {
        "kind": "comparison",
        "bundles": [bundle_json(report) for report in reports],
        "same": not found,
        "differences": plain(found),
    }


def _policy(manifest: Manifest | None) -> dict[str, Any]:
    keys = (
        "instructions",
        "default_instruction",
        "architecture",
        "inputs",
        "outputs",
        "stages",
        "cuts",
        "camera",
        "action",
        "precision",
        "parity",
        "tools",
    )
    if manifest is None:
        return dict.fromkeys((*keys, "uncompared_state", "gates"))
    values = {key: plain(getattr(manifest, key)) for key in keys}
    values["action"]["unit"] = shared_unit(manifest.action.units)
    values["instructions"] = [instruction.text for instruction in manifest.instructions]
    values["uncompared_state"] = list(manifest.uncompared_state)
    return {**values, "gates": gate_view.as_json(judgements(manifest))}


def _part(part: PartLine) -> dict[str, Any]:
    keys = ("name", "file", "size_bytes", "stream", "build")
    return {
        **{key: plain(getattr(part.record, key)) for key in keys},
        "problem": part.problem or None,
        "shared_with": list(part.shared),
        "copies_in": list(part.copies),
    }


def _plan(line: PlanLine) -> dict[str, Any]:
    record = line.record
    passed = record.verification.passed if record else None
    return {
        "name": line.name,
        "size_bytes": line.size_bytes,
        "state": "rejected"
        if line.rejected
        else {True: "checked", False: "rejected", None: "not checked"}[passed],
        "problem": line.problem or None,
        "hashed": line.hashed,
        "machine": plain(record.machine) if record else None,
        "parts": [_part(part) for part in line.parts] if record else None,
        "verification": plain(record.verification) if record else None,
    }
