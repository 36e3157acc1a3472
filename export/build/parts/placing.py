"""A plan's files in their place: side file last, which switches; what no side file names any more goes.

Files of parts are never replaced by others while a side file names them, so the plan in use is whole at every moment.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
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
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.files.atomic import sync_folder, write_atomically
from vla_edge.runtime.files.staging import leftovers, locked, remove, target_of
from vla_edge.runtime.process.interrupts import uninterrupted

from .making import has_finished


def write_record(plan: Path, record: PlanRecord) -> None:
    """Write the side file of a plan, whole or not at all."""
    write_atomically(record_path(plan), lambda file: file.write(encode_record(record)))


def keep_check(plan: PlanFile, checked: PlanRecord) -> None:
    """Write what a check has found into the side file of a plan in its place, if that is still the plan that ran.

    Raises:
        EngineError: another one has taken its place meanwhile.
    """
    with locked(plan.path.parent), uninterrupted():
        if _record_of(plan) != plan.record:
            raise EngineError(
                f"{plan.path} was replaced while it was checked: what was found holds for the one before.",
                "Give the command again.",
            )
        write_record(plan.path, checked)


def _record_of(plan: PlanFile) -> PlanRecord | None:
    """What its side file says now; None where nothing can be read."""
    try:
        return read_record(plan.path, plan.folder)
    except EngineError:
        return None


def refuse_blocked(path: Path) -> None:
    """Refuse, before anything is built, a folder where a file of the plan has to lie.

    Raises:
        InputError: there is one; a file or a link of such a name is replaced.
    """
    rejected = path.with_name(path.name + REJECTED_SUFFIX)
    for file in (path, record_path(path), runtime_cache_path(path), rejected, record_path(rejected)):
        if file.is_dir() and not file.is_symlink():
            raise InputError(f"{file} is a folder, where a file of the plan has to lie.", "Move it away.")


def publish(staged: PlanFile, path: Path) -> PlanRecord:
    """Move a plan from its staging folder into its place, and remove what it replaces.

    Parts first, record last: an earlier plan in parts is in use until then. A plan of one file has a fixed name: for a
    moment that file stands beside the earlier record, by which it is refused; `finish_killed` mends that.

    Returns:
        The record, in which a file may have another name.
    """
    write_record(staged.path, staged.record)  # with what the check has found: `finish_killed` may need it
    # Two builds at once must not leave the files of one beside the record of the other.
    with locked(path.parent), uninterrupted():
        parts = tuple(_placed(staged, part, path) for part in staged.record.parts)
        record = msgspec.structs.replace(staged.record, parts=parts)
        sync_folder(path.parent)
        if record != staged.record:
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
        if _is_taken(target, source):
            target = part_path(path, part.name, part.sha256)
    source.replace(target)
    if runtime_cache_path(source).is_file():
        runtime_cache_path(source).replace(runtime_cache_path(target))
    return msgspec.structs.replace(part, file=target.name)


def _is_taken(target: Path, source: Path) -> bool:
    """Whether something has the name that may be in use. A link is not: no plan is read through one."""
    try:
        there = target.lstat()
    except FileNotFoundError:
        return False
    return not stat.S_ISLNK(there.st_mode) and not os.path.samestat(there, source.lstat())


def set_aside(plan: PlanFile, plans: Path) -> Path:
    """Give a plan that missed a gate names by which nothing runs it or takes a part of it.

    Args:
        plan: in a staging folder.
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
    """Put a record beside its plan of one file where a build was killed between the two.

    Parts in their place are of no use without their record, and no harm.
    """
    if not os.access(path.parent, os.W_OK):  # then nothing was built here, nor can be
        return
    with locked(path.parent), uninterrupted():
        for left in leftovers(path.parent):
            staged = left / path.name
            if not staged.exists() and record_path(staged).is_file() and _belongs(staged, path):
                record_path(staged).replace(record_path(path))
                sync_folder(path.parent)


def _belongs(staged: Path, path: Path) -> bool:
    """Whether the file at `path` is the one of which a staging folder has the record, and has no record of its own.

    A kill can leave a record whose plan was removed, or replaced by another build: in use is what is in its place.
    """
    try:
        record = read_record(staged, path.parent.parent)
        if record.parts[0].name != WHOLE:
            return False
        with open_part(PlanFile(path, record, path.parent.parent), record.parts[0]):
            pass
    except EngineError:
        return False
    there = _record_of(PlanFile(path, record, path.parent.parent))
    return there is None or there.parts[0].sha256 != record.parts[0].sha256


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
