"""Versions 1 and 2 of a plan's side file, from before a plan could have parts.

In version 1 errors had no units of their own: all were in m/s.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from vla_edge.runtime.bundle.manifest import FileEntry, Metric, Name, Positive, Sha256

from . import record as now

# Of each metric: what it is called now, and the unit that it was in.
_METRICS: dict[str, tuple[Metric, str]] = {
    "max_abs_mps": ("max_abs", "m/s"),
    "relative_l2": ("relative_l2", "relative"),
}


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _SampleError(_Base, frozen=True):
    name: str
    max_abs_mps: float | None
    relative_l2: float | None


class _Check(_Base, frozen=True):
    stage: str
    metric: Literal["relative_l2", "max_abs_mps"]
    limit: float
    measured: float | None
    passed: bool


class _Verification(_Base, frozen=True):
    passed: bool | None
    note: str
    engine: str
    samples: tuple[_SampleError, ...]
    checks: tuple[_Check, ...]
    checked_utc: str | None


class _Record(_Base, frozen=True):
    plan: now.FileName
    size_bytes: Positive
    sha256: Sha256
    chunk_bytes: Positive
    chunk_sha256: tuple[Sha256, ...]
    machine: now.Machine
    build: now.BuildFacts
    contents: now.Contents
    bundle: Name
    manifest_sha256: Sha256
    model: tuple[FileEntry, ...]


class _Record1(_Record, frozen=True):
    record_version: Literal[1]
    verification: _Verification


class _Record2(_Record, frozen=True):
    record_version: Literal[2]
    verification: now.PlanVerification


def decode(data: bytes, version: Literal[1, 2]) -> now.PlanRecord:
    """A side file of an earlier version, as the present one says the same.

    Raises:
        msgspec.DecodeError: it is not what that version specified.
    """
    if version == 1:
        first = msgspec.json.decode(data, type=_Record1)
        return _as_now(first, _verification(first.verification))
    second = msgspec.json.decode(data, type=_Record2)
    return _as_now(second, second.verification)


def _as_now(old: _Record, verification: now.PlanVerification) -> now.PlanRecord:
    whole = now.PartRecord(
        name=now.WHOLE,
        file=old.plan,
        size_bytes=old.size_bytes,
        sha256=old.sha256,
        chunk_bytes=old.chunk_bytes,
        chunk_sha256=old.chunk_sha256,
        key=None,
        weights_sha256=None,
        weights_bytes=None,
        inputs=(),
        outputs=(),
        stream=0,
        build=old.build,
        contents=old.contents,
    )
    return now.PlanRecord(
        record_version=now.RECORD_VERSION,
        plan=old.plan,
        parts=(whole,),
        streams=None,
        machine=old.machine,
        bundle=old.bundle,
        manifest_sha256=old.manifest_sha256,
        model=old.model,
        verification=verification,
    )


def _verification(old: _Verification) -> now.PlanVerification:
    samples = tuple(
        now.SampleError(name=each.name, max_abs=each.max_abs_mps, relative_l2=each.relative_l2)
        for each in old.samples
    )
    fields = {**msgspec.structs.asdict(old), "samples": samples, "checks": tuple(map(_check, old.checks))}
    return now.PlanVerification(**fields)


def _check(old: _Check) -> now.Check:
    metric, unit = _METRICS[old.metric]
    return now.Check(**{**msgspec.structs.asdict(old), "metric": metric, "unit": unit})
