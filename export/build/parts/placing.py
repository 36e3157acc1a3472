"""A plan's files in their place: side file last, which switches; what no side file names any more goes.

Files of parts are never replaced by others while a side file names them, so the plan in use is whole at every moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vla_edge.runtime.engines.tensorrt.plan import PlanFile, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PART_SUFFIX,
    PLAN_SUFFIX,
    RECORD_SUFFIX,
    REJECTED_SUFFIX,
    part_path,
    record_path,
)
from vla_edge.runtime.engines.tensorrt.record import WHOLE, PartRecord, PlanRecord, encode_record
from vla_edge.runtime.engines.tensorrt.session import RUNTIME_CACHE_SUFFIX, runtime_cache_path
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.atomic import sync_folder, write_atomically
from vla_edge.runtime.files.staging import leftovers, locked, remove, target_of
from vla_edge.runtime.process.interrupts import uninterrupted

from .making import has_finished


def write_record(plan: Path, record: PlanRecord) -> None:
    """Write the side file of a plan, whole or not at all."""
    write_atomically(record_path(plan), lambda file: file.write(encode_record(record)))


def publish(staged: PlanFile, path: Path) -> PlanRecord:
    """Move a plan from its staging folder into its place, and remove what it replaces.

    Parts first, record last: an earlier plan in parts is in use until then. A plan of one file has a fixed name: for a
    moment that file stands beside the earlier record, by which it is refused; `finish_killed` mends that.

    Returns:
        The record, in which a file may have another name.
    """
    # Two builds at once must not leave the files of one beside the record of the other.
    with locked(path.parent), uninterrupted():
        parts = tuple(_placed(staged, part, path) for part in staged.record.parts)
        record = msgspec.structs.replace(staged.record, parts=parts)
        sync_folder(path.parent)
        write_record(staged.path, record)
        record_path(staged.path).replace(record_path(path))
        sync_folder(path.parent)
        for left in unnamed_in(path.parent):
            left.unlink(missing_ok=True)
    return record


def _placed(staged: PlanFile, part: PartRecord, path: Path) -> PartRecord:
    source = staged.file(part)
    if part.name == WHOLE:
        target = path
    else:
        target = path.with_name(part.file)
        # Built again, as by --force: TensorRT's choices may differ, and the earlier bytes are in use.
        if os.path.lexists(target) and not target.samefile(source):
            target = part_path(path, part.name, part.sha256)
    source.replace(target)
    if runtime_cache_path(source).is_file():
        runtime_cache_path(source).replace(runtime_cache_path(target))
    return msgspec.structs.replace(part, file=target.name)


def set_aside(plan: PlanFile, plans: Path) -> Path:
    """Give a plan that missed a gate names by which nothing runs it or takes a part of it.

    Args:
        plan: in its place, or in a staging folder.
        plans: the bundle's folder of plans.

    Returns:
        Its file, or of several parts their side file.
    """
    rejected = plans / (plan.path.name + REJECTED_SUFFIX)
    # Not `plan.path.parent`: that may be a staging folder, whose lock the build holds already.
    with locked(plans), uninterrupted():
        record_path(plan.path).unlink(missing_ok=True)
        parts = []
        for part in plan.record.parts:
            source = plan.file(part)
            target = plans / (source.name + REJECTED_SUFFIX)
            source.replace(target)
            whole = part.name == WHOLE
            parts.append(part if whole else msgspec.structs.replace(part, file=target.name))
        write_record(rejected, msgspec.structs.replace(plan.record, parts=tuple(parts)))
        for left in unnamed_in(plans):
            left.unlink(missing_ok=True)
    return rejected if rejected.exists() else record_path(rejected)


def finish_killed(path: Path) -> None:
    """Put a record beside its plan of one file where a build was killed between the two."""
    for left in leftovers(path.parent):
        staged = left / path.name
        if staged.exists() or not record_path(staged).is_file():
            continue
        try:
            record = read_record(staged, path.parent.parent)
        except EngineError:
            continue
        if (
            record.parts[0].name == WHOLE
        ):  # parts in their place are of no use without their record, and no harm
            record_path(staged).replace(record_path(path))


def tidy(path: Path) -> None:
    """Remove what builds of a plan left that is good now; other plans' finished parts stay for their next build."""
    for left in leftovers(path.parent):
        if target_of(left) == path or not left.is_dir() or not has_finished(left):
            remove(left)
    if any(path.parent.glob(f"*{PART_SUFFIX}*")):
        with locked(path.parent), uninterrupted():
            for unnamed in unnamed_in(path.parent):
                unnamed.unlink(missing_ok=True)


def unnamed_in(plans: Path) -> Iterator[Path]:
    """Files of parts, and plans that were replaced by parts, which no side file names any more.

    The folder must be `locked`, or a build that is putting its parts there would lose them. Where a side file cannot
    be read, nothing is unnamed.
    """
    try:
        entries = {path.name for path in plans.iterdir()}
        records = [
            read_record(plans / name.removesuffix(RECORD_SUFFIX), plans.parent)
            for name in sorted(entries)
            if name.endswith((PLAN_SUFFIX + RECORD_SUFFIX, REJECTED_SUFFIX + RECORD_SUFFIX))
        ]
    except (OSError, EngineError):
        return
    named = {part.file for record in records for part in record.parts}
    in_parts = {record.plan for record in records if record.parts[0].name != WHOLE}
    for name in sorted(entries):
        file = name.removesuffix(RUNTIME_CACHE_SUFFIX)
        if file.endswith((PART_SUFFIX, PART_SUFFIX + REJECTED_SUFFIX)):
            if file not in named:
                yield plans / name
        elif file in in_parts and file not in named:
            yield plans / name
