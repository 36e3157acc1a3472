"""The report of a bench run: its types, and the published JSON Schema of them.

A report keeps every raw sample, so that any statistic can be computed again from it; a summary of one keeps
some (see `Summarised`). Units stand in the field names; latencies are wall-clock milliseconds.
`python -m vla_edge.bench.report.types` prints the schema.
JSON has no infinity: an error that is not finite is null, and `finite` beside it says so.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.bench.options.options import MOST_SAMPLES, Options
from vla_edge.runtime.bundle.manifest import Channels

SCHEMA_VERSION: Literal[3] = 3
LONGEST_WORDS = 500
# what a speed-up is over, and what every error is to
BASELINE = "torch-fp32"
JUDGED_CALLS = 10  # fewer of a warm-up are neither steady nor unsteady

Status = Literal["ok", "wrong", "failed", "skipped"]
DeviceMethod = Literal["nvml-process", "nvml-device-growth", "mem-available"]
# A report may come from anywhere: bounds far beyond what is measured, so that no figure of one can overflow.
LARGEST_NUMBER = 1e100
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Number = Annotated[float, Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
Milliseconds = Annotated[float, Meta(ge=0, le=1e12)]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]
Mebibytes = Annotated[float, Meta(ge=0, le=1e12)]
# Of an error, such as "m/s": what the bundle's components are in, in words where they differ.
Unit = Annotated[str, Meta(min_length=1, max_length=LONGEST_WORDS)]
Series = Annotated[tuple[Milliseconds, ...], Meta(max_length=MOST_SAMPLES)]


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Gpu(_Base, frozen=True):
    """A GPU as NVML describes it, at the start of the run; null is what it did not tell."""

    index: Count
    name: str | None
    memory_mib: Mebibytes | None
    compute_capability: str | None
    driver: str | None
    graphics_clock_mhz: Count | None
    graphics_clock_max_mhz: Count | None
    memory_clock_mhz: Count | None
    power_limit_w: Number | None
    # processes of others that held memory on it when the run began
    other_processes: Count | None


class Machine(_Base, frozen=True):
    """Where the figures come from; null is what the machine did not tell."""

    cpu: str
    # such as "NVIDIA Jetson Orin NX", where the firmware names the board
    board: str | None
    cores_physical: Count | None
    cores_usable: Count
    cpu_clock_mhz: Number | None
    cpu_clock_max_mhz: Number | None
    memory_mib: Mebibytes | None
    load_average_1min: Number | None
    gpus: tuple[Gpu, ...]
    os: str
    python: str
    # library -> installed version; those not installed are absent
    versions: dict[str, str]

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that figures of --device cuda are from."""
        return self.gpus[0] if self.gpus else None


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
    fps: Number


class Samples(_Base, frozen=True):
    """Every sample, in the order taken, none removed; of a summary some of them, in the order taken."""

    step_ms: Series
    # `Policy.act` on a camera frame, preprocessing included
    act_ms: Series = ()
    # between CUDA events around the forward pass, without the copies
    device_ms: Series = ()
    # the host's share of these forward passes: until it had queued all their kernels
    queue_ms: Series = ()
    # `Preprocessor` alone, on the frame of `act_ms`
    preprocess_ms: Series = ()
    # of a loop at a fixed rate that sleeps in between: from the tick to the end of its step
    paced_ms: Series = ()
    # how late the loop woke for each of these ticks; part of `paced_ms`
    wake_ms: Series = ()


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
    # the steps of `load_s` that the engine's session tells
    load_split_s: dict[str, Seconds] = {}


class PhaseMemory(_Base, frozen=True):
    """The largest readings while a phase of the process ran."""

    phase: str
    host_mib: Mebibytes
    host_anonymous_mib: Mebibytes
    device_mib: Mebibytes | None = None


class Memory(_Base, frozen=True):
    """Peaks of the backend's process.

    `host_peak_mib` is the kernel's high-water mark of resident memory and counts pages of mapped files,
    which the kernel may drop; `host_anonymous_peak_mib` is what the process itself needs, sampled.
    """

    host_peak_mib: Mebibytes | None
    host_anonymous_peak_mib: Mebibytes | None
    device_peak_mib: Mebibytes | None
    # how the device figure was read: per process, as growth of the whole device (PID namespaces), or as what
    # a machine with one memory for CPU and GPU has less
    device_method: DeviceMethod | None
    torch_allocator_peak_mib: Mebibytes | None
    phases: tuple[PhaseMemory, ...]


class Identity(_Base, frozen=True):
    """What really ran: see `vla_edge.runtime.engines.session.EngineIdentity`."""

    backend: str
    version: str
    device: str
    provider: str
    precision: str
    compute: str
    bundle: str

    @property
    def computes(self) -> str:
        """The arithmetic in one word: "fp32" of "fp32 (widened)"."""
        return self.compute.split(" ")[0]


class Parity(_Base, frozen=True):
    """Distance of the actions from the golden ones (PyTorch FP32 at export), over every call made.

    `max_abs`: largest difference of any component after the action scale, each in its `unit`, limits not applied.
    `relative_l2`: largest ||x - ref|| / ||ref|| of a sample. Both null where a value was not finite.
    `state`: the largest `relative_l2` of each carried state, by its stage, over the golden samples once more; null
    where it was not finite.
    """

    calls: Count
    samples: Count
    finite: bool
    unit: Unit
    max_abs: Number | None
    relative_l2: Number | None
    state: dict[str, Number | None] = {}


class Paced(_Base, frozen=True):
    """A loop at a fixed rate, sleeping in between as a robot does; latency is counted from the tick.

    A tick that begins before the last step has ended is missed and dropped, not queued.
    """

    rate_hz: Number
    deadline_ms: Milliseconds
    latency: Latency
    wake: Latency
    # ticks, of them those answered late or not at all, and the most of those in a row
    ticks: Count
    misses: Count
    longest_run_of_misses: Count


class Energy(_Base, frozen=True):
    """Energy of the whole device while steps were timed back to back, idle power included."""

    joules_per_step: Number
    mean_power_w: Number
    # where it was read: the GPU's energy counter, its power sampled, or a board's rails
    method: Literal["nvml-energy", "nvml-power", "hwmon-power"]
    seconds: Seconds


class Growth(_Base, frozen=True):
    """What the process held more after the timed steps than before them."""

    steps: Count
    host_anonymous_mib: Number | None
    device_mib: Number | None


class StageTime(_Base, frozen=True):
    """A stage of the policy: vision, text, clip, fusion, lstm, head, or "other"."""

    stage: str
    ms: Milliseconds
    # of the profile's total, 0 to 1
    share: Number


class LayerTime(_Base, frozen=True):
    """One layer of an engine, as its own profiler names it."""

    name: str
    stage: str
    ms: Milliseconds
    share: Number


class Profile(_Base, frozen=True):
    """Where the time of one step goes, measured apart from the latency, since profiling slows it.

    `ms` are means over `runs` steps; the layers are the slowest ones, slowest first.
    """

    source: Literal["tensorrt-profiler", "onnxruntime-profile", "torch-events", "torch-clock"]
    runs: Count
    total_ms: Milliseconds
    layers_total: Count
    stages: tuple[StageTime, ...]
    layers: tuple[LayerTime, ...]


class PromptTime(_Base, frozen=True):
    """Steps whose instruction has this many tokens before padding."""

    tokens: Count
    runs: Count
    p50_ms: Milliseconds


class Agreement(_Base, frozen=True):
    """Actions on the user's own frames, in order, against those of `torch-fp32` on the same frames.

    `errors` are the largest difference of a component at each frame, in its `unit`: where state is carried from
    frame to frame, its course is the drift.
    """

    frames: Count
    reference: str
    unit: Unit
    max_abs: Number
    mean_abs: Number
    errors: tuple[Number, ...]


class FloorDistance(_Base, frozen=True):
    """The least time this device could take for what the step must read and compute; see `floor/`.

    `bytes_read` counts every weight once in the row's own precision, `operations` two for each
    multiply-add. `ms` is the larger of the two times, `times_floor` over it the p50 of the
    device alone where it was timed, else of the step.
    """

    bytes_read: Count
    operations: Count
    memory_ms: Milliseconds
    compute_ms: Milliseconds
    ms: Milliseconds
    times_floor: Number

    @property
    def p50_ms(self) -> float:
        """What `times_floor` was taken of."""
        return self.ms * self.times_floor


class Doubt(_Base, frozen=True):
    """A reason not to trust a row's figures as they are; "few-runs" stands in older reports only, now a note."""

    kind: Literal[
        "spread", "drift", "throttled", "shared-device", "host-bound", "leak", "cold", "few-runs", "busy-host"
    ]
    text: str


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
    queue: Latency | None = None
    # p50 of the PyTorch row over p50 of this one; null where either is missing or this one is wrong
    speedup_over_torch_fp32: Number | None = None
    speedup_over_torch_fp16: Number | None = None
    parity: Parity | None = None
    cold_start: ColdStart | None = None
    memory: Memory | None = None
    warmup: Warmup | None = None
    samples: Samples | None = None
    preprocess: Latency | None = None
    paced: Paced | None = None
    energy: Energy | None = None
    growth: Growth | None = None
    profile: Profile | None = None
    prompts: tuple[PromptTime, ...] = ()
    agreement: Agreement | None = None
    floor: FloorDistance | None = None
    # of `torch.compile`, part of the cold start's first step
    compile_s: Seconds | None = None
    doubts: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The backend without the workload that may stand before it: "torch-fp32" of "x:torch-fp32"."""
        return self.backend.rpartition(":")[2]

    @property
    def is_torch(self) -> bool:
        """Whether this is PyTorch in some form, and no engine."""
        return self.kind.startswith("torch")

    @property
    def is_fault(self) -> bool:
        """Whether it failed or is wrong, but for PyTorch in less than FP32: that may be wrong, and is a finding."""
        may_be_wrong = self.is_torch and self.kind != BASELINE
        return self.status == "failed" or (self.status == "wrong" and not may_be_wrong)


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
    # frames a call, and tokens of the padded prompt
    batch: Count = 1
    prompt_length: Count = 0
    # its order of channels, where the graph takes the frame as it is; null where it takes prepared pixels
    camera: Channels | None = None


class Rates(_Base, frozen=True):
    """What this device can do, measured in a process of its own; see `floor/`.

    Bandwidth counts bytes read and written of a large copy; matmul rates are operations a second, two for
    each multiply-add, of large square products.
    """

    device: str
    library: str
    copy_gb_s: Number
    matmul_fp32_tflops: Number
    # null where the device has no such arithmetic
    matmul_tf32_tflops: Number | None
    matmul_fp16_tflops: Number | None


class Prediction(_Base, frozen=True):
    """What a device could at best do, from published figures. Nothing here was measured on it."""

    device: str
    memory_gb_s: Number
    fp16_tflops: Number
    floor_ms: Milliseconds
    # the floor, times what the measured engine needs over its own floor here; null without an engine
    expected_ms: Milliseconds | None
    source: str


class Forecast(_Base, frozen=True):
    """The predictions for one bundle."""

    bundle: str
    bytes_read: Count
    operations: Count
    rows: tuple[Prediction, ...]


class MemoryPart(_Base, frozen=True):
    """One item of the bytes that explain a measured peak."""

    what: str
    mib: Number


# What people read of a stand-in's protocol: that of the published figures, or the bench's own.
PROTOCOL_WORDS = {"owner": "published", "bench": "bench"}


class StandinRow(_Base, frozen=True):
    """The stand-in on one backend under one protocol."""

    # "owner": 3 warm-ups and 30 runs; "bench": until steady, then as many as for the policies
    protocol: Literal["owner", "bench"]
    row: Row
    # predicted from shapes, and the parts of it
    explained_mib: Number | None
    parts: tuple[MemoryPart, ...] = ()

    @property
    def protocol_word(self) -> str:
        return PROTOCOL_WORDS[self.protocol]

    @property
    def allocated_mib(self) -> float | None:
        """What PyTorch's allocator held: shapes explain nothing else of a process."""
        return self.row.memory.torch_allocator_peak_mib if self.row.memory else None

    @property
    def off_by(self) -> float | None:
        """How much more was held than explained, as a part of 1."""
        held_mib = self.allocated_mib
        return held_mib / self.explained_mib - 1 if held_mib is not None and self.explained_mib else None


class Claim(_Base, frozen=True):
    """One line of the published table that timed this stand-in."""

    model: str
    fp32_ms: Milliseconds
    fp16_ms: Milliseconds
    fp32_memory_mb: Number
    fp16_memory_mb: Number

    @property
    def speedup(self) -> float | None:
        return self.fp32_ms / self.fp16_ms if self.fp16_ms else None


class StandinReport(_Base, frozen=True):
    """The random stand-in of `standin/`: it is none of the policies, and its figures say nothing of them."""

    parameters: Count
    rows: tuple[StandinRow, ...]
    claims: tuple[Claim, ...]
    explanation: tuple[str, ...]


class Refused(_Base, frozen=True):
    """A folder that looks like a bundle, but is not a sound one."""

    path: str
    reason: str


class Summarised(_Base, frozen=True):
    """What `vla-bench summary` kept of a report; see `vla_edge.bench.summary`.

    The figures are those of all samples, `Latency.runs` of them, rounded to `digits` significant digits: enough
    for every table to stay as it was, letter for letter.
    """

    # samples in all series here, and of how many; the most of one series
    samples_kept: Count
    of: Count
    most_of_a_series: Count
    digits: Annotated[int, Meta(gt=0, le=17)]
    # what is not here at all
    left_out: tuple[str, ...]


class Report(_Base, frozen=True, kw_only=True):
    schema_version: Literal[3]
    tool: str
    created_utc: str
    # null in a report with all that was measured
    summarised: Summarised | None = None
    machine: Machine
    options: Options
    bundles: tuple[BundleReport, ...]
    refused: tuple[Refused, ...]
    rates: Rates | None = None
    forecasts: tuple[Forecast, ...] = ()
    standin: StandinReport | None = None
    # false in what is saved while backends are still to come
    complete: bool = True

    @property
    def rows(self) -> tuple[Row, ...]:
        """Of all bundles, then of the stand-in."""
        standin = self.standin.rows if self.standin else ()
        return (*(row for bundle in self.bundles for row in bundle.rows), *(item.row for item in standin))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    schema = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vla-edge bench report",
        **schema,
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
