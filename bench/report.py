"""The report of a bench run: types, JSON, and the published JSON Schema.

A report keeps every raw sample, so that any statistic can be computed again from it. Units stand in the
field names; latencies are wall-clock milliseconds. `python -m vla_edge.bench.report` prints the schema.
JSON has no infinity: an error that is not finite is null, and `finite` beside it says so.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.atomic import write_atomically
from vla_edge.runtime.errors import InputError

SCHEMA_VERSION = 1

Status = Literal["ok", "wrong", "failed", "skipped"]
Count = Annotated[int, Meta(ge=0)]
Milliseconds = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Mebibytes = Annotated[float, Meta(ge=0)]


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Gpu(_Base, frozen=True):
    """A GPU as NVML describes it, at the start of the run."""

    index: Count
    name: str
    memory_mib: Mebibytes
    compute_capability: str
    driver: str
    graphics_clock_mhz: Count | None
    graphics_clock_max_mhz: Count | None
    memory_clock_mhz: Count | None
    power_limit_w: float | None
    # processes of others that held memory on it when the run began
    other_processes: Count


class Machine(_Base, frozen=True):
    """Where the figures come from."""

    cpu: str
    # such as "NVIDIA Jetson Orin NX", where the firmware names the board
    board: str | None
    cores_physical: Count | None
    cores_usable: Count
    cpu_clock_mhz: float | None
    cpu_clock_max_mhz: float | None
    memory_mib: Mebibytes
    load_average_1min: float | None
    gpus: tuple[Gpu, ...]
    os: str
    python: str
    # library -> installed version; those not installed are absent
    versions: dict[str, str]


class Latency(_Base, frozen=True):
    """Statistics of raw samples; percentiles by linear interpolation, `std_ms` with n - 1.

    `fps` is calls per second back to back: the inverse of the mean.
    """

    runs: Count
    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    max_ms: Milliseconds
    mean_ms: Milliseconds
    std_ms: Milliseconds
    fps: float


class Samples(_Base, frozen=True):
    """Every sample, in the order taken; nothing is removed."""

    step_ms: tuple[Milliseconds, ...]
    # `Policy.act` on a camera frame, preprocessing included
    act_ms: tuple[Milliseconds, ...] = ()
    # between CUDA events around the forward pass, without the copies
    device_ms: tuple[Milliseconds, ...] = ()


class Warmup(_Base, frozen=True):
    calls: Count
    seconds: Seconds
    # whether two windows of calls agreed before the bound was reached
    stable: bool


class ColdStart(_Base, frozen=True):
    """From spawning the process to the end of the first step, split.

    The files are mostly in the page cache: earlier rows and the search for the checkpoint have read them.
    """

    interpreter_s: Seconds
    import_s: Seconds
    # opening, verification of every file and loading of the weights
    load_s: Seconds
    first_call_s: Seconds
    total_s: Seconds


class PhaseMemory(_Base, frozen=True):
    """The largest readings while a phase of the process ran."""

    phase: str
    host_mib: Mebibytes
    host_anonymous_mib: Mebibytes


class Memory(_Base, frozen=True):
    """Peaks of the backend's process.

    `host_peak_mib` is the kernel's high-water mark of resident memory and counts pages of mapped files,
    which the kernel may drop; `host_anonymous_peak_mib` is what the process itself needs, sampled.
    """

    host_peak_mib: Mebibytes | None
    host_anonymous_peak_mib: Mebibytes | None
    device_peak_mib: Mebibytes | None
    # how the device figure was read: per process, or as growth of the whole device (PID namespaces)
    device_method: Literal["nvml-process", "nvml-device-growth"] | None
    torch_allocator_peak_mib: Mebibytes | None
    phases: tuple[PhaseMemory, ...]


class Identity(_Base, frozen=True):
    """What really ran: see `vla_edge.runtime.sessions.base.EngineIdentity`."""

    backend: str
    version: str
    device: str
    provider: str
    precision: str
    compute: str
    bundle: str


class Parity(_Base, frozen=True):
    """Distance of the actions from the golden ones (PyTorch FP32 at export), over every call made.

    `max_abs_mps`: largest difference of any component after the action scale, in m/s, limits not applied.
    `relative_l2`: largest ||x - ref|| / ||ref|| of a sample. Both null where a value was not finite.
    """

    calls: Count
    samples: Count
    finite: bool
    max_abs_mps: float | None
    relative_l2: float | None


class Row(_Base, frozen=True):
    """One backend on one bundle."""

    backend: str
    status: Status
    # why the status is not "ok"
    reason: str
    # on every row, so that no figure from random weights is read as a real one
    weights_origin: str
    identity: Identity | None = None
    step: Latency | None = None
    act: Latency | None = None
    device: Latency | None = None
    # p50 of the PyTorch row over p50 of this one; null where either is missing or this one is wrong
    speedup_over_torch_fp32: float | None = None
    speedup_over_torch_fp16: float | None = None
    parity: Parity | None = None
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    warmup: Warmup | None = None
    samples: Samples | None = None
    notes: tuple[str, ...] = ()


class BundleReport(_Base, frozen=True):
    name: str
    path: str
    manifest_sha256: str
    layout: str
    parameters: Count
    precision: str
    source_file: str
    weights_origin: str
    # height, width of the RGB frame given to `Policy.act`
    frame: tuple[int, int]
    rows: tuple[Row, ...]


class Refused(_Base, frozen=True):
    """A folder that looks like a bundle, but is not a sound one."""

    path: str
    reason: str


class Options(_Base, frozen=True):
    """What was asked for; null means the documented default."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, Meta(gt=0)]
    runs: Count | None
    seconds: Seconds
    warmup: Count | None
    time_limit_s: Seconds
    backends: tuple[str, ...]


class Report(_Base, frozen=True):
    schema_version: Literal[1]
    tool: str
    created_utc: str
    machine: Machine
    options: Options
    bundles: tuple[BundleReport, ...]
    refused: tuple[Refused, ...]


def encode(report: Report) -> bytes:
    """The report as JSON: UTF-8, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decode(data: bytes, origin: str) -> Report:
    """Read a report back.

    Raises:
        InputError: not JSON, or not a report of this schema version; names the field.
    """
    try:
        return msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{origin} is not a bench report: {error}.", "Write it with vla-bench --json."
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    schema = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vla-edge bench report",
        **schema,
    }


def check_writable(path: Path) -> None:
    """Refuse a report path before minutes of measuring, not after.

    Raises:
        InputError: the folder is missing or cannot be written, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"cannot write the report to {path}: it is a folder.", "Name a file.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(
            f"cannot write the report to {path}: no writable folder {path.parent}.", "Create it first."
        )


def write(report: Report, path: Path) -> None:
    """Write the report as a whole or not at all."""
    write_atomically(path, lambda file: file.write(encode(report)))


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
