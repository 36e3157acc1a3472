"""The side file of a plan: what it was built for and from, its errors. Its types, checked whenever it is read."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.bundle.manifest import Count, FileEntry, Metric, Name, Positive, Sha256

from .library import Backend

RECORD_VERSION: Literal[2] = 2


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Machine(_Base, frozen=True):
    """What a plan is bound to, and what else of the building machine explains a difference.

    `version` is TensorRT's; `sm` is the compute capability as one number, 90 for 9.0. `gpu` and `driver`
    are None where the plan was built for a GPU that was not there.
    """

    backend: Backend
    version: Name
    sm: Positive
    gpu: str | None
    driver: str | None


class BuildFacts(_Base, frozen=True):
    """How the plan was built. None for an option means TensorRT's own default."""

    seconds: float
    peak_host_mib: Count
    timing_cache: Literal["none", "new", "reused"]
    level: int
    aux_streams: int | None
    workspace_mib: int | None
    built_utc: Name


class Contents(_Base, frozen=True):
    """What the engine is made of, read back after the build.

    `source` tells from where: "engine" is TensorRT's inspector; "plan" the text inside a TensorRT-RTX
    plan, where no GPU can load it; "network" the parsed network before optimisation.
    """

    source: Literal["engine", "plan", "network"]
    layers: dict[str, int]
    dtypes: dict[str, int]


class SampleError(_Base, frozen=True):
    """The error of one golden sample: of any component in its own unit, before limits, and relative."""

    name: str
    max_abs: float | None
    relative_l2: float | None


class Check(_Base, frozen=True):
    """One gate of the manifest, and what was measured in `unit`; `measured` is None for NaN or infinity."""

    stage: Name
    metric: Metric
    unit: Name
    limit: float
    measured: float | None
    passed: bool


class PlanVerification(_Base, frozen=True):
    """The golden samples run through the plan, on the machine that will use it.

    `passed` is None when they could not be run, and `note` says why.
    """

    passed: bool | None
    note: str
    engine: str
    samples: tuple[SampleError, ...]
    checks: tuple[Check, ...]
    checked_utc: str | None


class PlanRecord(_Base, frozen=True):
    """The side file of a plan."""

    record_version: Literal[2]
    plan: Name
    size_bytes: Positive
    sha256: Sha256
    # of every `chunk_bytes`, so that a robot checks the plan on all of its cores
    chunk_bytes: Positive
    chunk_sha256: tuple[Sha256, ...]
    machine: Machine
    build: BuildFacts
    contents: Contents
    bundle: Name
    manifest_sha256: Sha256
    model: Annotated[
        tuple[FileEntry, ...], Meta(description="the files of the bundle that the plan was built from")
    ]
    verification: PlanVerification


def encode_record(record: PlanRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
