"""From a bundle to a checked TensorRT plan inside it. Needs no torch and no onnx: robots run this.

The order: is the plan there already; is there room; choose parts; take or build each, and write its side file, in a
staging folder; run the golden samples through all as one; move it into place, or set it aside when a gate is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from vla_edge.export.parts.choice import counted
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.engines.tensorrt.parts.loading import chain_of
from vla_edge.runtime.engines.tensorrt.plan import (
    PlanFile,
    find_plan,
    model_files,
    open_part,
    require_verified,
)
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLANS_FOLDER,
    backend_option,
    dotted,
    plan_path,
)
from vla_edge.runtime.engines.tensorrt.record import (
    RECORD_VERSION,
    PartRecord,
    PlanRecord,
    PlanVerification,
)
from vla_edge.runtime.errors import EngineError, InputError, ParityError, VlaError
from vla_edge.runtime.files.staging import claimed, resumed_folder
from vla_edge.runtime.files.writable import refuse_unwritable

from .memory import check_disk, prediction, room_on
from .options import BuildOptions
from .parts.earlier import Earlier, find_earlier
from .parts.making import Work, finished, has_finished, keep_finished, make_all, take, taken_parts_told
from .parts.placing import (
    finish_killed,
    keep_check,
    publish,
    refuse_blocked,
    set_aside,
    tidy,
    write_record,
)
from .parts.streams import settle_streams
from .parts.wanted import layout_of
from .progress import BuildProgress, Silent
from .target import Target, open_target
from .timing_cache import TimingCache
from .verify import verify_plan

_COPY = "copy the bundle to where you may write"


@dataclass(frozen=True)
class BuildResult:
    """A plan in its place.

    Attributes:
        path: of the plan.
        record: its side file.
        fresh: whether it was built now or was there already.
        origins: of a fresh one's parts that were not built now where they are from, by their name.
    """

    path: Path
    record: PlanRecord
    fresh: bool
    origins: Mapping[str, str] = field(default_factory=dict)


class RejectedPlanError(ParityError):
    """A plan that missed a gate, by which nothing runs it; `record` tells what every gate measured."""

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
        InputError: the bundle is not writable, or a plan that was checked would be lost for one that cannot be.
        VlaError: another build or check is at work in the bundle.
        ResourceError: not enough disk, or the kernel killed the build for its memory.
        RejectedPlanError: a gate was missed; the plan is set aside with the suffix ".rejected".
        KeyboardInterrupt: Ctrl-C.

    After an error nothing of this build is left but parts that were finished, from which the next one goes on.
    """
    options, progress = options or BuildOptions(), progress or Silent()
    with _alone_in(bundle.folder), ExitStack() as held:
        target = held.enter_context(_open(options))
        path = plan_path(bundle.folder, target.machine.backend, target.machine.version, target.machine.sm)
        finish_killed(path)
        there = None if options.force else _whole_plan(bundle, target)
        if there is not None:
            if options.parts in ("auto", _counted(there.record, bundle)):
                tidy(path)
                return BuildResult(there.path, there.record, fresh=False)
            _refuse_to_lose_checked(there, target)
        refuse_unwritable(path.parent, _COPY)
        path.parent.mkdir(exist_ok=True)
        refuse_blocked(path)
        keeps = partial(_tells_of_finished, progress, target.device is not None)
        with resumed_folder(path, keeps, spares=has_finished) as staging:
            if target.shares_memory:
                held.close()  # a context of this process would take of what the one that builds needs
            staged, origins = _build_into(staging, path, bundle, target, options, progress)
            if target.shares_memory:
                target = held.enter_context(_open(options))
            with taken_parts_told(staged):
                staged = _checked(staged, bundle, target, options.memory, progress)
                _set_aside_missed(staged, bundle)
            record = settle_streams(staged, bundle, target, options.memory, progress)
            record = publish(replace(staged, record=record), path)
        return BuildResult(path, record, fresh=True, origins=origins)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep every other build and check out of a bundle; a dead one's claim is gone with it.

    Not by its folder of plans: that one is locked for moments meanwhile, by whoever moves files in it.
    """
    try:
        with claimed(folder):
            yield
    except BlockingIOError as error:
        raise VlaError(
            f"another vla-build, or a vla-bundle deploy, is at work on {folder}.",
            "Wait until it has ended, then give the command again: two at once would take twice the memory.",
        ) from error


def _open(options: BuildOptions) -> AbstractContextManager[Target]:
    return open_target(options.backend, options.device_index, options.memory, options.sm, building=True)


def verify_existing(
    bundle: Bundle, options: BuildOptions | None = None, progress: BuildProgress | None = None
) -> BuildResult:
    """Run the golden samples through the bundle's plan for this GPU, and keep the result in its side file.

    Raises:
        EngineError: no plan for this machine, it cannot run, or another took its place meanwhile.
        RejectedPlanError: a gate was missed. The plan stays where it is, since a robot may be running it and another
            check may pass; its side file says so, and until then every session refuses it, "auto" as well.
        VlaError: another build or check is at work in the bundle.
    """
    options, progress = options or BuildOptions(), progress or Silent()
    with (
        _alone_in(bundle.folder),
        open_target(options.backend, options.device_index, options.memory, options.sm) as target,
    ):
        if target.device is None:
            raise EngineError(f"The plan cannot run here: {target.absent}", "Run this on the target.")
        plan = find_plan(bundle, target.machine)
        refuse_unwritable(plan.path.parent, _COPY)
        checked = _checked(plan, bundle, target, options.memory, progress)
        keep_check(plan, checked.record)
        if not checked.record.verification.passed:
            option = f"{bundle.folder}{backend_option(target.machine.backend)}"
            raise _rejection(
                checked,
                bundle,
                f"It stays where it is, and is refused until a check passes: vla-build --verify {option}. "
                f"Another plan: vla-build {option}. The first bad tensor:",
            )
        return BuildResult(plan.path, checked.record, fresh=False)


def _whole_plan(bundle: Bundle, target: Target) -> PlanFile | None:
    """The plan that is there, if it is this bundle's and good: every byte of it is hashed."""
    try:
        plan = find_plan(bundle, target.machine)
        if target.device is not None:
            require_verified(plan)
        for part in plan.record.parts:
            # a plan that a session refuses is not good, however like one it looks
            with open_part(plan, part):
                pass
        chain_of(plan, bundle.manifest)
    except EngineError:
        return None  # none, stale, unchecked or damaged: this build replaces it
    return plan


def _refuse_to_lose_checked(there: PlanFile, target: Target) -> None:
    """What is built where its GPU is not stays unchecked: it does not silently take the place of a proven plan.

    Raises:
        InputError: the golden samples of the plan that is there passed.
    """
    if target.device is None and there.record.verification.passed:
        gpu = there.record.machine.gpu or f"SM {dotted(target.machine.sm)}"
        raise InputError(
            f"{there.path} was checked against the golden samples, on {gpu}; a plan that is built here cannot be, "
            "and would replace it.",
            "Build on the target, or replace it all the same with --force.",
        )


def _build_into(
    staging: Path, path: Path, bundle: Bundle, target: Target, options: BuildOptions, progress: BuildProgress
) -> tuple[PlanFile, dict[str, str]]:
    """Build what no plan has yet, and write the side file; that says that nothing was checked yet.

    Returns:
        The plan, and `BuildResult.origins`.
    """
    earlier = find_earlier(bundle.folder, target.machine)
    predict = prediction(options.backend, target.shares_memory, earlier.built)
    room = room_on(target, options.memory_limit, look=not options.ignore_memory)
    reuse = options.reuse and not options.force
    earlier = earlier if reuse else Earlier()
    layout = layout_of(bundle, path, target.machine, options, predict, room, earlier, progress)
    parts = finished(layout.parts if reuse else (), staging)
    there = dict.fromkeys(parts, "finished before")
    parts |= take([part for part in layout.parts if part.file not in parts], earlier, staging)
    left = [part for part in layout.parts if part.file not in parts]
    check_disk(bundle.folder, sum(part.weights_bytes for part in left))
    for part in layout.parts:
        if part.file in parts:
            there.setdefault(part.file, f"found in {earlier.whose(part.key, bundle.folder)}")
    for line in (*earlier.not_taken(bundle.folder), *layout.told(there)):
        progress.remark(line)
    if not options.ignore_memory:
        layout.warn(left, room)
    work = Work(bundle, target, options, timing_cache_path(bundle, target, options), staging, progress)
    record = _unchecked(path, make_all(layout.parts, work, parts), bundle, target)
    write_record(staging / path.name, record)
    origins = {part.name: there[part.file] for part in layout.parts if part.file in there}
    return PlanFile(staging / path.name, record, bundle.folder), origins


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


def _tells_of_finished(progress: BuildProgress, can_fit: bool, staging: Path) -> bool:
    """Whether a build that failed leaves parts for the next one, which the user is told.

    What a builder refuses without a GPU, whose memory might have run out, it always will.
    """
    kept = keep_finished(staging) and (can_fit or not isinstance(sys.exc_info()[1], EngineError))
    if kept:
        progress.remark("the parts that are finished are kept: the same command goes on from them")
    return kept


def _unchecked(path: Path, parts: tuple[PartRecord, ...], bundle: Bundle, target: Target) -> PlanRecord:
    return PlanRecord(
        record_version=RECORD_VERSION,
        plan=path.name,
        parts=parts,
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


def _checked(
    plan: PlanFile, bundle: Bundle, target: Target, memory: MemoryName, progress: BuildProgress
) -> PlanFile:
    """The plan with the samples' errors in its record, on the disk not yet; as it was where its GPU is not here."""
    if target.device is None:
        return plan
    verification, contents = verify_plan(plan, bundle, target, memory, progress)
    parts = tuple(
        msgspec.structs.replace(part, contents=seen or part.contents)
        for part, seen in zip(plan.record.parts, contents, strict=True)
    )
    return replace(plan, record=msgspec.structs.replace(plan.record, verification=verification, parts=parts))


def _set_aside_missed(staged: PlanFile, bundle: Bundle) -> None:
    """Keep a new plan that missed a gate beside the one that is in use.

    Raises:
        RejectedPlanError: it did.
    """
    if staged.record.verification.passed is False:
        rejected = set_aside(staged, bundle.folder / PLANS_FOLDER)
        raise _rejection(staged, bundle, f"It is kept as {rejected}. Find the first bad tensor with:")


def _counted(record: PlanRecord, bundle: Bundle) -> int:
    """How many parts a plan has, as `--parts` counts them."""
    return counted((part.name for part in record.parts), bundle.manifest)


def _rejection(plan: PlanFile, bundle: Bundle, kept: str) -> RejectedPlanError:
    record = plan.record
    parts = f" --parts {number}" if (number := _counted(record, bundle)) > 1 else ""
    return RejectedPlanError(
        "The plan differs from the PyTorch FP32 policy by more than its gates allow: "
        f"{record.verification.note}",
        f"{kept} vla-bisect {plan.folder}{backend_option(record.machine.backend)}{parts}",
        record,
    )
