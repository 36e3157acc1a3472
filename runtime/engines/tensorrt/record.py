"""The side file of a plan: its parts, what it was built for and from, its errors. Checked whenever it is read."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.bundle.manifest import (
    Count,
    FileEntry,
    Metric,
    Name,
    Positive,
    Sha256,
    StageName,
    TensorSpec,
)

from .library import Backend

RECORD_VERSION: Literal[3] = 3
WHOLE = "whole"  # the name of the part of a plan that is not cut
MAX_PARTS = 64
# of a file beside the side file: no path, no hidden file
FileName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\\n)", max_length=200)]


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
    """How a part was built. None for an option means TensorRT's own default, for a measure that it was not taken.

    `peak_host_mib` is the largest host memory, `peak_gpu_mib` that of the GPU, `peak_mib` the largest sum of both at
    one moment, which is what a board needs whose GPU has no memory of its own; `predicted_mib` is what was expected of
    it. `found_in` names the bundle that the part was taken from instead of being built.
    """

    seconds: float
    peak_host_mib: Count
    timing_cache: Literal["none", "new", "reused"]
    level: int
    aux_streams: int | None
    workspace_mib: int | None
    built_utc: Name
    peak_gpu_mib: Count | None = None
    peak_mib: Count | None = None
    predicted_mib: Count | None = None
    found_in: Name | None = None


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


class PartRecord(_Base, frozen=True):
    """One file of a plan: an engine that TensorRT alone can load, from one cut of the graph to another."""

    name: Annotated[StageName, Meta(description='the cut where it ends, or "whole"')]
    file: FileName
    size_bytes: Positive
    sha256: Sha256
    # of every `chunk_bytes`, so that a robot checks the file on all of its cores
    chunk_bytes: Positive
    chunk_sha256: tuple[Sha256, ...]
    # what decides its bytes, and the weights in it; None of plans from before they were recorded
    key: Sha256 | None
    weights_sha256: Sha256 | None
    weights_bytes: Count | None
    # of a plan that is not cut, none: they are the manifest's
    inputs: Annotated[tuple[TensorSpec, ...], Meta(max_length=128)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(max_length=128)]
    stream: Annotated[int, Meta(ge=0, le=7, description="parts of different numbers may run side by side")]
    build: BuildFacts
    contents: Contents


class StreamTimes(_Base, frozen=True):
    """Milliseconds of the GPU for one run, median, with all parts in line and with those on their streams."""

    in_line_ms: float
    side_by_side_ms: float


class PlanRecord(_Base, frozen=True):
    """The side file of a plan."""

    record_version: Literal[3]
    plan: Name
    parts: Annotated[
        tuple[PartRecord, ...],
        Meta(min_length=1, max_length=MAX_PARTS, description="in the order in which they run"),
    ]
    # None where no two parts can run side by side, or nothing could be timed
    streams: StreamTimes | None
    machine: Machine
    bundle: Name
    manifest_sha256: Sha256
    model: Annotated[
        tuple[FileEntry, ...], Meta(description="the files of the bundle that the plan was built from")
    ]
    verification: PlanVerification

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def build_seconds(self) -> float:
        """Of the parts that were built for it."""
        return sum(part.build.seconds for part in self.parts if part.build.found_in is None)

    @property
    def peak_host_mib(self) -> int:
        """The largest host memory of any part's build: they were built one after another."""
        return max(part.build.peak_host_mib for part in self.parts)

    @property
    def contents(self) -> Contents:
        """Of all parts together."""
        layers: Counter[str] = Counter()
        dtypes: Counter[str] = Counter()
        for part in self.parts:
            layers.update(part.contents.layers)
            dtypes.update(part.contents.dtypes)
        return Contents(
            source=self.parts[0].contents.source,
            layers=dict(layers.most_common()),
            dtypes=dict(dtypes.most_common()),
        )


def encode_record(record: PlanRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
