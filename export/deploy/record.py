"""What was proven of a bundle where it is deployed, kept beside its plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Name, Sha256
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER
from vla_edge.runtime.engines.tensorrt.record import PlanVerification
from vla_edge.runtime.files.atomic import sync_folder, write_atomically
from vla_edge.runtime.files.regular_file import read_regular

_NAME = "deployed.json"
_MAX_BYTES = 1 << 20


class DeployRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a bundle was deployed.

    Attributes:
        manifest_sha256: of the bundle that was checked.
        backend: the engine that it was deployed for.
        deployed_utc: such as "2026-11-26T01:02:03Z".
        verification: of its golden samples on that engine; None where none were run.
        number: of this deploy in its folder; 0 of those from before they were counted.
    """

    record_version: Literal[1] = 1
    manifest_sha256: Sha256
    backend: Name
    deployed_utc: Name
    verification: PlanVerification | None
    number: Annotated[int, Meta(ge=0, lt=1 << 53)] = 0


def write_record(bundle: Bundle, record: DeployRecord) -> None:
    """Keep it, and let all that was put into the bundle's folder be on the disk."""
    folder = bundle.folder / PLANS_FOLDER
    folder.mkdir(exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    write_atomically(folder / _NAME, lambda file: file.write(data))
    sync_folder(bundle.folder)


def read_record(folder: Path, manifest_sha256: str) -> DeployRecord | None:
    """The record in a bundle's folder; None where there is none, or it is not of this bundle."""
    try:
        data = read_regular(folder / PLANS_FOLDER / _NAME, _MAX_BYTES)
        record = msgspec.json.decode(data, type=DeployRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # it proves nothing
        return None
    return record if record.manifest_sha256 == manifest_sha256 else None
