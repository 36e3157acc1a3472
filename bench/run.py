"""The bench from end to end: find bundles, run each backend in its own process, put the report together."""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vla_edge.bench.backends.checkpoints import CheckpointFinder, Search
from vla_edge.bench.backends.load import BACKEND_NAMES, TORCH_NAMES, engines_of
from vla_edge.bench.backends.random_policy import describe
from vla_edge.bench.backends.runnable import check_paths, needs_gpu
from vla_edge.bench.backends.torch_session import TORCH_MODES
from vla_edge.bench.floor.attach import with_floors
from vla_edge.bench.floor.rates import measure_rates_apart
from vla_edge.bench.harness.harness import Harness, Progress
from vla_edge.bench.harness.process import DEFAULT_WORKER
from vla_edge.bench.harness.rows import with_agreement, with_speedups
from vla_edge.bench.measure.jobs import Failed, Job, Measured
from vla_edge.bench.options.options import Options
from vla_edge.bench.report.types import (
    SCHEMA_VERSION,
    BundleReport,
    Rates,
    Refused,
    Report,
    Row,
)
from vla_edge.bench.standin.bench import bench_standin
from vla_edge.bench.watch.machine import describe_machine
from vla_edge.bench.watch.nvml import open_gpu
from vla_edge.runtime.bundle.bundle import Bundle, find_bundles
from vla_edge.runtime.bundle.manifest import GOLDEN_NAME, MODEL_NAME, Manifest
from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.version import VERSION

from .no_bundles import ENGINES, no_bundles

FRAME = (480, 640)  # height and width of a small camera's picture
READ_HERE = (GOLDEN_NAME, MODEL_NAME)
# Inductor times 22 kernels for each shape of a matrix product, 23 s a shape on an H200
SLOW_COMPILE_MODE = "max-autotune"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Planned:
    """A sound bundle, and where its checkpoint is."""

    bundle: Bundle
    checkpoint: Search


def run_bench(
    options: Options,
    progress: Progress,
    keep: Callable[[Report], None] = lambda report: None,
    checkpoints: Sequence[Path] = (),
    worker: Sequence[str] = DEFAULT_WORKER,
) -> Report:
    """Measure every bundle, and the stand-in where it was asked for.

    Args:
        options: what to measure, and how.
        progress: is told of each row.
        keep: given the report so far after each row, not complete, so that an end in the middle loses little.
        checkpoints: given by the user, for PyTorch's rows.
        worker: the command that runs one backend.

    Raises:
        InputError: no bundle there, or a checkpoint that belongs to none.
    """
    machine = describe_machine()  # before anything of ours keeps it busy
    planned, refused = _plan(options, checkpoints) if "policy" in options.workloads else ([], [])
    report = Report(
        schema_version=SCHEMA_VERSION,
        tool=f"vla-edge {VERSION}",
        created_utc="",
        machine=machine,
        options=msgspec.structs.replace(
            options,
            engines=_shown(Path(options.engines or ENGINES).absolute()),
            images=tuple(Path(image).name for image in options.images),
        ),
        bundles=(),
        refused=tuple(refused),
        complete=False,
    )
    with open_gpu() if options.device == "cuda" else nullcontext() as gpu:
        harness = Harness(options, gpu, progress, worker)
        for item in planned:
            done = report.bundles
            for bundle in _bench_bundle(item, harness):
                report = _with(report, bundles=(*done, bundle))
                keep(report)
        for standin in bench_standin(harness) if "owner-standin" in options.workloads else ():
            report = _with(report, standin=standin)
            keep(report)
        rates = None if options.quick else _measure_rates(harness)
    return with_floors(_with(report, rates=rates, complete=True), [item.bundle for item in planned])


def _with(report: Report, **changes: Any) -> Report:
    """The report with what was measured by now."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return msgspec.structs.replace(report, created_utc=now, **changes)


def _measure_rates(harness: Harness) -> Rates | None:
    harness.progress.begin("this device", "bandwidth and matmul rates")
    rates = measure_rates_apart(harness.options, harness.worker)
    if isinstance(rates, Failed):
        logger.warning("no floor: the device's rates could not be measured: %s", rates.reason)
        return None
    return rates


def has_failure(report: Report) -> bool:
    """Whether an engine is wrong, a backend failed, a bundle was refused, or nothing could be tried."""
    nothing_ran = all(row.status == "skipped" for row in report.rows)
    return bool(report.refused) or nothing_ran or any(row.is_fault for row in report.rows)


def _plan(options: Options, checkpoints: Sequence[Path]) -> tuple[list[_Planned], list[Refused]]:
    """Open every bundle and find its checkpoint, before the first minute is spent on measuring."""
    engines = Path(options.engines or ENGINES)
    folders = find_bundles(engines) if engines.is_dir() else []
    if not folders:
        raise no_bundles(engines)
    finder = CheckpointFinder(checkpoints)
    planned: list[_Planned] = []
    refused: list[Refused] = []
    wants_torch = bool(set(TORCH_NAMES).intersection(options.backends or BACKEND_NAMES))
    for folder in folders:
        try:
            check_paths((folder,))
            bundle = Bundle.open(folder, verify="size")
            # what the bench itself reads; a worker hashes what its engine reads
            bundle.check_hashes(
                unread=[file.path for file in bundle.manifest.files if file.path not in READ_HERE]
            )
        except VlaError as error:
            refused.append(Refused(path=str(folder), reason=error.problem))
            continue
        found = finder.find(bundle.folder, bundle.manifest.source) if wants_torch else Search(None)
        planned.append(_Planned(bundle, found))
    if wants_torch:
        finder.refuse_unused()
    return planned, refused


def _bench_bundle(item: _Planned, harness: Harness) -> Iterator[BundleReport]:
    """Every backend of a bundle; yields what there is so far, after each row."""
    manifest = item.bundle.manifest
    rows: list[Row] = []
    actions: dict[str, list] = {}
    for name in harness.options.backends or _default_backends(item, harness.options):
        harness.progress.begin(manifest.name, name)
        row, actions[name] = _bench_backend(name, item, harness)
        rows.append(row)
        judged = with_agreement(rows, actions, manifest)
        harness.progress.end(judged[-1])
        yield _bundle_report(item, with_speedups(judged))


def _bundle_report(item: _Planned, rows: tuple[Row, ...]) -> BundleReport:
    manifest = item.bundle.manifest
    return BundleReport(
        name=manifest.name,
        path=_shown(item.bundle.folder),
        manifest_sha256=item.bundle.manifest_sha256,
        layout=manifest.source.layout,
        parameters=manifest.source.parameters,
        precision=manifest.precision.achieved,
        source_file=manifest.source.file,
        weights_origin=manifest.source.weights_origin,
        frame=_frame_of(manifest),
        rows=rows,
        batch=manifest.batch,
        prompt_length=manifest.prompt.length if manifest.prompt else 0,
        camera=manifest.camera.channels if manifest.camera else None,
    )


def _frame_of(manifest: Manifest) -> tuple[int, int]:
    """Height and width of the frame for `Policy.act`."""
    camera = manifest.camera
    return (camera.height, camera.width) if camera else FRAME


def _shown(folder: Path) -> str:
    """As seen from where the command was run: a report that is passed on says nothing of the machine's folders."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else folder.name


def _default_backends(item: _Planned, options: Options) -> tuple[str, ...]:
    """Everything there is, less what this device cannot do and what compiles for minutes."""
    compiles = options.device == "cuda" and not options.quick
    names = [
        name
        for name, mode in TORCH_MODES.items()
        if (options.device == "cuda" or not mode.needs_gpu)
        and (mode.compile_mode is None or (compiles and mode.compile_mode != SLOW_COMPILE_MODE))
    ]
    return (*names, *engines_of(item.bundle))


def _bench_backend(name: str, item: _Planned, harness: Harness) -> tuple[Row, list]:
    """The row, and the actions on the user's frames."""
    options, manifest = harness.options, item.bundle.manifest
    is_torch = name in TORCH_NAMES
    random = is_torch and item.checkpoint.path is None
    origin = describe(manifest) if random else manifest.source.weights_origin
    obstacle = _obstacle(name, item, options)
    if obstacle:
        return Row(backend=name, status="skipped", reason=obstacle, weights_origin=origin), []
    job = Job(
        backend=name,
        bundle=str(item.bundle.folder),
        options=msgspec.structs.replace(options, images=()) if random else options,
        frame=_frame_of(manifest),
        checkpoint=str(item.checkpoint.path) if is_torch and item.checkpoint.path else None,
    )
    notes = [item.checkpoint.note] if is_torch and item.checkpoint.note else []
    if random:
        notes = [f"random weights, so its actions are not compared: {item.checkpoint.note}"]
    if not any(gate.stage == "action" for gate in manifest.parity.gates):
        notes.append("the manifest has no gate for the action: only checked to be finite")
    row, measured = harness.run(job, origin, None if random else manifest.parity.gates, notes)
    actions = measured.frame_actions if isinstance(measured, Measured) else ()
    return row, [[[math.nan if x is None else x for x in step] for step in frame] for frame in actions]


def _obstacle(name: str, item: _Planned, options: Options) -> str:
    """Why a backend is not even tried, or ""."""
    if name not in (*TORCH_NAMES, *engines_of(item.bundle)):
        return f"the bundle has no plan for it: vla-build {item.bundle.folder} --backend {name}"
    if name in TORCH_MODES and TORCH_MODES[name].needs_gpu and options.device == "cpu":
        return f"{TORCH_MODES[name].how if TORCH_MODES[name].graph else 'TF32'} needs --device cuda"
    if needs_gpu(name) and options.device == "cpu":
        return "a TensorRT plan needs --device cuda"
    return ""
