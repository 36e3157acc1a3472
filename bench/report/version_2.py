"""Reports of schema version 2, from before errors had a unit of their own: all were in m/s."""

from __future__ import annotations

from typing import Any

_UNIT = "m/s"
_PARITY = {"max_abs_mps": "max_abs"}
_AGREEMENT = {"max_mps": "max_abs", "mean_mps": "mean_abs", "error_mps": "errors"}


def from_version_2(report: Any) -> Any:
    """The same in version 3, as far as it is what version 2 was: what is not is left for the types to refuse.

    Args:
        report: as JSON was decoded, changed in place.
    """
    if isinstance(report, dict):
        report["schema_version"] = 3
        for row in _rows(report):
            for key, names in (("parity", _PARITY), ("agreement", _AGREEMENT)):
                found = row.get(key)
                if isinstance(found, dict) and not found.keys() & {"unit", *names.values()}:
                    row[key] = {"unit": _UNIT, **{names.get(name, name): found[name] for name in found}}
    return report


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of bundles, and of the stand-in, which wraps each."""
    bundles = [_part(bundle, "rows") for bundle in _part(report, "bundles")]
    wrapped = [item.get("row") for item in _part(report.get("standin"), "rows") if isinstance(item, dict)]
    return [row for rows in (*bundles, wrapped) for row in rows if isinstance(row, dict)]


def _part(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
