"""From a bundle to a checked TensorRT plan inside it. Needs no torch and no onnx: robots run this.

The order: is the plan there already; is there room; build; write plan and side file into a staging
folder; run the golden samples through it; move both into place, or set them aside when a gate is missed.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan import (
    CHUNK_BYTES,
    PlanFile,
    check_record,
    find_plan,
    hash_plan,
    model_files,
    open_part,
    read_record,
    require_verified,
)
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLANS_FOLDER,
    REJECTED_SUFFIX,
    backend_option,
    plan_path,
    plans_in,
    record_path,
)
from vla_edge.runtime.engines.tensorrt.record import (
    RECORD_VERSION,
    WHOLE,
    BuildFacts,
    PartRecord,
    PlanRecord,
    PlanVerification,
    encode_record,
)
from vla_edge.runtime.engines.tensorrt.session import runtime_cache_path
from vla_edge.runtime.errors import EngineError, ParityError
from vla_edge.runtime.files.atomic import sync_folder, write_atomically
from vla_edge.runtime.files.staging import leftovers, locked, remove_leftovers, staging_folder
from vla_edge.runtime.files.writable import refuse_unwritable
from vla_edge.runtime.process.interrupts import uninterrupted

from .memory import check_room, weights_bytes
from .options import BuildOptions
from .process.memory_watch import watch_of
from .process.messages import Done, Job
from .process.parent import build_apart
from .progress import BuildProgress, Silent
from .target import Target, open_target
from .timing_cache import TimingCache
from .verify import utc_now, verify_plan

_COPY = "copy the bundle to where you may write"


@dataclass(frozen=True)
class BuildResult:
    """A plan in its place; `fresh` tells whether it was built now or was there already."""

    path: Path
    record: PlanRecord
    fresh: bool


class RejectedPlanError(ParityError):
    """A plan that missed a gate and was set aside; `record` tells what every gate measured."""

    def __init__(self, problem: str, hint: str, record: PlanRecord) -> None:
        super().__init__(problem, hint)
        self.record = record


def build_plan(
    bundle: Bundle, options: BuildOptions | None = None, progress: BuildProgress | None = None
) -> BuildResult:
    """Build the bundle's plan for a GPU and check it against the golden samples.

    Args:
        bundle: opened with full verification.
        options: how to build.
        progress: is told of the builder's phases.

    Returns:
        The plan and its record. Where the GPU is not in this machine, `record.verification.passed` is None.

    Raises:
        EngineError: no TensorRT, driver or GPU, or TensorRT refuses the network.
        InputError: the bundle is not writable.
        ResourceError: not enough disk.
        RejectedPlanError: a gate was missed; the plan is set aside with the suffix ".rejected".
        KeyboardInterrupt: Ctrl-C; nothing of this build is left.
    """
    options, progress = options or BuildOptions(), progress or Silent()
    with ExitStack() as held:
        target = held.enter_context(_open(options))
        path = plan_path(bundle.folder, target.machine.backend, target.machine.version, target.machine.sm)
        _finish_killed(path)
        present = None if options.force else _present(bundle, target)
        if present is not None:
            return BuildResult(present.path, present.record, fresh=False)
        refuse_unwritable(path.parent, _COPY)
        check_room(bundle, options.ignore_memory, target.shares_memory)
        path.parent.mkdir(exist_ok=True)
        with staging_folder(path) as staging:
            if target.shares_memory:
                held.close()  # a context of this process would take of what the one that builds needs
            staged = _build_into(staging / path.name, bundle, target, options, progress)
            if target.shares_memory:
                target = held.enter_context(_open(options))
            record = _verify(staged, bundle, target, options.memory, progress)
            _publish(staged.path, path, record)
        return BuildResult(path, record, fresh=True)


def _open(options: BuildOptions) -> AbstractContextManager[Target]:
    return open_target(options.backend, options.device_index, options.memory, options.sm, building=True)


def verify_existing(
    bundle: Bundle, options: BuildOptions | None = None, progress: BuildProgress | None = None
) -> BuildResult:
    """Run the golden samples through the bundle's plan for this GPU, and keep the result in its side file.

    Raises:
        EngineError: no plan for this machine, or it cannot run.
        RejectedPlanError: a gate was missed; the plan is set aside.
    """
    options, progress = options or BuildOptions(), progress or Silent()
    with open_target(options.backend, options.device_index, options.memory, options.sm) as target:
        if target.device is None:
            raise EngineError(f"The plan cannot run here: {target.absent}", "Run this on the target.")
        plan = find_plan(bundle, target.machine)
        refuse_unwritable(plan.path.parent, _COPY)
        record = _verify(plan, bundle, target, options.memory, progress)
        _publish(plan.path, plan.path, record)
        return BuildResult(plan.path, record, fresh=False)


def _present(bundle: Bundle, target: Target) -> PlanFile | None:
    """The plan that is there, if it is this bundle's and good."""
    path = plan_path(bundle.folder, target.machine.backend, target.machine.version, target.machine.sm)
    if path.name not in plans_in(bundle.folder) or not record_path(path).is_file():
        return None
    try:
        plan = check_record(
            PlanFile(path, read_record(path, bundle.folder), bundle.folder), bundle, target.machine
        )
        if target.device is not None:
            require_verified(plan)
        for part in plan.record.parts:
            with open_part(
                plan, part
            ):  # a plan that a session refuses is not good, however like one it looks
                pass
        return plan
    except EngineError:
        return None  # stale, unchecked or damaged: this build replaces it


def _build_into(
    path: Path, bundle: Bundle, target: Target, options: BuildOptions, progress: BuildProgress
) -> PlanFile:
    """Build in a process of its own, and write the side file; that says that nothing was checked yet."""
    start = time.perf_counter()
    library, watch = LIBRARIES[options.backend], watch_of(target)
    done = build_apart(
        Job(
            model=bundle.model_path,
            plan=path,
            # the process may see no GPU, or another one first
            options=replace(options, sm=target.machine.sm) if library.compiles_at_load else options,
            timing_cache=timing_cache_path(bundle, target, options),
            log_level=logging.getLogger("vla_edge").getEffectiveLevel(),
            parent=os.getpid(),
        ),
        watch,
        progress,
    )
    peaks = watch.peaks()
    facts = BuildFacts(
        seconds=round(time.perf_counter() - start, 3),
        peak_host_mib=peaks.host,
        peak_gpu_mib=peaks.gpu,
        peak_mib=peaks.together,
        timing_cache=done.timing_cache,
        level=options.level,
        aux_streams=options.aux_streams,
        workspace_mib=options.workspace_mib,
        built_utc=utc_now(),
    )
    record = _write_unchecked(path, done, bundle, target, facts)
    return PlanFile(path, record, bundle.folder)


def timing_cache_path(bundle: Bundle, target: Target, options: BuildOptions) -> Path | None:
    """The bundle's measured kernel times for this target; None where the options say so, or nothing is timed."""
    default = plan_path(bundle.folder, target.machine.backend, target.machine.version, target.machine.sm)
    # Where nothing is timed, as by TensorRT-RTX, the timing cache is deprecated and empty.
    wanted = options.timing_cache and not LIBRARIES[options.backend].compiles_at_load
    return (options.timing_cache_path or default.with_suffix(".timing")) if wanted else None


def open_timing_cache(bundle: Bundle, target: Target, options: BuildOptions) -> TimingCache:
    """The cache of `timing_cache_path`."""
    path = timing_cache_path(bundle, target, options)
    return TimingCache(path, f"{target.machine.backend} {target.machine.version}")


def _write_unchecked(path: Path, done: Done, bundle: Bundle, target: Target, facts: BuildFacts) -> PlanRecord:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        size = len(image)
        with memoryview(image) as view:
            whole, chunks = hash_plan(view)
    part = PartRecord(
        name=WHOLE,
        file=path.name,
        size_bytes=size,
        sha256=whole,
        chunk_bytes=CHUNK_BYTES,
        chunk_sha256=chunks,
        key=None,
        weights_sha256=None,
        weights_bytes=weights_bytes(bundle.manifest),
        inputs=(),
        outputs=(),
        stream=0,
        build=facts,
        contents=done.contents,
    )
    record = PlanRecord(
        record_version=RECORD_VERSION,
        plan=path.name,
        parts=(part,),
        streams=None,
        machine=target.machine,
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        model=model_files(bundle),
        verification=PlanVerification(
            passed=None,
            note=target.absent or "not yet run.",
            engine="",
            samples=(),
            checks=(),
            checked_utc=None,
        ),
    )
    write_record(path, record)
    return record


def _verify(
    plan: PlanFile, bundle: Bundle, target: Target, memory: MemoryName, progress: BuildProgress
) -> PlanRecord:
    """The record with the samples' errors in it; a plan that misses a gate is moved aside first."""
    if target.device is None:
        return plan.record
    verification, contents = verify_plan(plan, bundle, target, memory, progress)
    part = plan.record.parts[0]
    part = msgspec.structs.replace(part, contents=contents or part.contents)
    record = msgspec.structs.replace(plan.record, verification=verification, parts=(part,))
    if not verification.passed:
        rejected = _set_aside(plan.path, bundle, record)
        raise RejectedPlanError(
            f"The plan differs from the PyTorch FP32 policy by more than its gates allow: {verification.note}",
            f"It is kept as {rejected}. Find the first bad tensor with: "
            f"vla-bisect {bundle.folder}{backend_option(record.machine.backend)}",
            record,
        )
    return record


def _set_aside(path: Path, bundle: Bundle, record: PlanRecord) -> Path:
    rejected = bundle.folder / PLANS_FOLDER / (path.name + REJECTED_SUFFIX)
    # Not `path.parent`: that may be this build's staging folder, whose lock it holds already.
    with locked(rejected.parent), uninterrupted():
        record_path(path).unlink(missing_ok=True)
        path.replace(rejected)
        write_record(rejected, record)
    return rejected


def _publish(staged: Path, path: Path, record: PlanRecord) -> None:
    """Plan first, record last: without the record, or with an older one, the plan is refused.

    Two builds at once must not leave the plan of one beside the record of the other.
    """
    if staged == path:
        write_record(path, record)
        return
    write_record(staged, record)
    with locked(path.parent), uninterrupted():
        staged.replace(path)
        cache = runtime_cache_path(staged)
        if cache.is_file():
            cache.replace(runtime_cache_path(path))
        record_path(staged).replace(record_path(path))
    sync_folder(path.parent)


def _finish_killed(path: Path) -> None:
    """Put a record beside its plan where a build was killed between the two, and remove what else it left."""
    for left in leftovers(path.parent):
        record = record_path(left / path.name)
        if record.is_file() and not (left / path.name).exists():  # its plan is in place already
            record.replace(record_path(path))
    remove_leftovers(path.parent)


def write_record(plan: Path, record: PlanRecord) -> None:
    """Write the side file of a plan, whole or not at all."""
    write_atomically(record_path(plan), lambda file: file.write(encode_record(record)))
