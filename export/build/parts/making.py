"""Each part of a plan in its turn: taken from where it is, or built. What is finished outlives a killed build."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from vla_edge.export.build.memory import check_disk
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.process.memory_watch import watch_of
from vla_edge.export.build.process.messages import Job
from vla_edge.export.build.process.parent import build_apart
from vla_edge.export.build.progress import BuildProgress
from vla_edge.export.build.target import Target
from vla_edge.export.build.verify import utc_now
from vla_edge.export.parts.split import write_part
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan import CHUNK_BYTES, PlanFile, hash_plan
from vla_edge.runtime.engines.tensorrt.plan_names import PART_SUFFIX, RECORD_SUFFIX, backend_option
from vla_edge.runtime.engines.tensorrt.record import BuildFacts, Contents, PartRecord
from vla_edge.runtime.errors import EngineError, ParityError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.files.regular_file import open_regular, read_regular, regular_size
from vla_edge.runtime.files.staging import remove
from vla_edge.runtime.printable import printable

from .earlier import Earlier, Kept
from .labels import Labelled
from .wanted import Wanted

_log = logging.getLogger(__name__)

_GRAPHS = "graphs"
_MAX_NOTE_BYTES = 8 << 20
_MIB = 1 << 20
_COPIED_BYTES = 16 << 20  # at a time


@dataclass(frozen=True)
class Work:
    """What all parts of one plan have in common.

    Attributes:
        bundle: with the graph.
        target: to build for; on a board closed meanwhile.
        options: of the builder.
        timing_cache: file of kernel times, or None.
        staging: folder in which the files appear.
        progress: is told of phases.
        taps: tensors to return beside the outputs, each from the part that makes it.
    """

    bundle: Bundle
    target: Target
    options: BuildOptions
    timing_cache: Path | None
    staging: Path
    progress: BuildProgress
    taps: tuple[str, ...] = ()


def finished(wanted: Iterable[Wanted], staging: Path) -> dict[str, PartRecord]:
    """Parts that an earlier build of the same plan had finished, by their file's name; all else is removed.

    A part counts that has a note beside it, written last, and is what that says to the last byte.
    """
    found = {}
    for part in wanted:
        note = _noted(staging / part.file) if part.graph is not None else None
        if note is not None and note.key == part.key:
            found[part.file] = _record(part, _File.of(note), note.build, note.contents)
    keep = {*found, *(name + RECORD_SUFFIX for name in found)}
    for path in list(staging.iterdir()):
        if path.name not in keep:
            remove(path)
    return found


def has_finished(staging: Path) -> bool:
    """Whether there is a part that the next build of this plan can go on from."""
    return any(_note(path).exists() for path in staging.glob(f"*{PART_SUFFIX}"))


def keep_finished(staging: Path) -> bool:
    """The same, after a failure; graphs, whose weights look like gigabytes though they are links, go."""
    remove(staging / _GRAPHS)
    return has_finished(staging)


def take(wanted: Iterable[Wanted], earlier: Earlier, staging: Path) -> dict[str, PartRecord]:
    """Parts that other plans have, by their file's name here; linked, or copied where that cannot be.

    Those plans are other builds', even other users', and may go or change at any moment: what cannot be had, or is
    not what its record says to the last byte, is left to be built.

    Raises:
        ResourceError: no room for a copy, nor for the part if it were built.
    """
    taken = {}
    for part in wanted:
        kept = earlier.parts.get(part.key) if part.key is not None else None
        if kept is None or not _taken(kept, staging / part.file):
            continue
        predicted = part.need.together // _MIB
        build = msgspec.structs.replace(
            kept.part.build, found_in=kept.plan.record.bundle, predicted_mib=predicted
        )
        taken[part.file] = _record(part, _File.of(kept.part), build, kept.part.contents)
    return taken


def _taken(kept: Kept, target: Path) -> bool:
    """Whether the part is there now, and what its record says; checked where it is from now on."""
    try:
        _link(kept.path, target, kept.part.size_bytes)
        if regular_size(target) == kept.part.size_bytes and _hashed(target) == _File.of(kept.part):
            return True
        problem = "it was changed since it was built"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValueError as error:  # an empty file
        problem = str(error)
    _log.warning("nothing is taken from %s: %s", kept.path, problem)
    remove(target)
    return False


def _link(source: Path, target: Path, size_bytes: int) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links, or another one
        with open_regular(source) as file:
            check_disk(target.parent, size_bytes)
            write_atomically(target, lambda copy: shutil.copyfileobj(file, copy, _COPIED_BYTES))


@contextmanager
def taken_parts_told(plan: PlanFile) -> Iterator[None]:
    """Say of a plan that cannot be loaded, or misses a gate, how to have it without parts of other plans.

    Else the next build would take them again, and end as this one.
    """
    try:
        yield
    except (EngineError, ParityError) as error:
        if any(part.build.found_in is not None for part in plan.record.parts):
            command = f"vla-build {plan.folder}{backend_option(plan.record.machine.backend)} --no-reuse"
            error.hint += printable(f" Parts of it were taken from other plans; to build all anew: {command}")
            error.args = (f"{error.problem}\n{error.hint}",)
        raise


def make(part: Wanted, at: int, of: int, work: Work) -> PartRecord:
    """Build one part in a process of its own, into the staging folder.

    Raises:
        VlaError: as `build_apart`.
    """
    start, watch = time.perf_counter(), watch_of(work.target)
    path = work.staging / part.file
    done = build_apart(_job(part, path, work), watch, Labelled(work.progress, part.name, at, of))
    peaks = watch.peaks()
    facts = BuildFacts(
        seconds=round(time.perf_counter() - start, 3),
        peak_host_mib=peaks.host,
        peak_gpu_mib=peaks.gpu,
        peak_mib=peaks.together,
        predicted_mib=part.need.together // _MIB,
        timing_cache=done.timing_cache,
        level=work.options.level,
        aux_streams=work.options.aux_streams,
        workspace_mib=work.options.workspace_mib,
        built_utc=utc_now(),
    )
    record = _record(part, _hashed(path), facts, done.contents)
    if part.graph is not None:  # beside the whole lies the side file itself
        note = _Note(made=_identity(path), part=record)
        write_atomically(_note(path), lambda file: file.write(msgspec.json.encode(note)))
    return record


def make_all(parts: Sequence[Wanted], work: Work, there: Mapping[str, PartRecord]) -> tuple[PartRecord, ...]:
    """Build one part after another, but those that are there already, by their file's name.

    Raises:
        VlaError: as `build_apart`; those before stay in the staging folder.
    """
    return tuple(there.get(part.file) or make(part, at, len(parts), work) for at, part in enumerate(parts))


def _job(part: Wanted, path: Path, work: Work) -> Job:
    compiles_at_load = LIBRARIES[work.options.backend].compiles_at_load
    return Job(
        model=_model(part, work),
        plan=path,
        # the process may see no GPU, or another one first
        options=replace(work.options, sm=work.target.machine.sm) if compiles_at_load else work.options,
        timing_cache=work.timing_cache,
        taps=tuple(tap for tap in work.taps if part.graph is None or part.graph.makes(tap)),
        log_level=logging.getLogger("vla_edge").getEffectiveLevel(),
        parent=os.getpid(),
    )


def _model(part: Wanted, work: Work) -> Path:
    """The part's ONNX file, over the bundle's own weights."""
    if part.graph is None:
        return work.bundle.model_path
    graphs = work.staging / _GRAPHS
    remove(graphs)
    graphs.mkdir()
    return write_part(part.graph, graphs, work.bundle.folder / WEIGHTS_NAME)


class _File(NamedTuple):
    """A plan's bytes, as a record has them."""

    size_bytes: int
    sha256: str
    chunk_bytes: int
    chunk_sha256: tuple[str, ...]

    @classmethod
    def of(cls, record: PartRecord) -> _File:
        return cls(record.size_bytes, record.sha256, record.chunk_bytes, record.chunk_sha256)


def _record(part: Wanted, file: _File, facts: BuildFacts, contents: Contents) -> PartRecord:
    return PartRecord(
        name=part.name,
        file=part.file,
        **file._asdict(),
        key=part.key,
        weights_sha256=part.weights_sha256,
        weights_bytes=part.weights_bytes,
        inputs=part.graph.inputs if part.graph else (),
        outputs=part.graph.outputs if part.graph else (),
        stream=part.stream,
        build=facts,
        contents=contents,
    )


def _hashed(path: Path) -> _File:
    """Of a regular file.

    Raises:
        OSError: there is none.
        ValueError: it is empty.
    """
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        with memoryview(image) as view:
            whole, chunks = hash_plan(view)
        return _File(len(image), whole, CHUNK_BYTES, chunks)


def _note(path: Path) -> Path:
    return path.with_name(path.name + RECORD_SUFFIX)


class _Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Beside a finished part: which file was built, and what it is."""

    made: tuple[int, int, int]
    part: PartRecord


def _identity(path: Path) -> tuple[int, int, int]:
    """Owner, inode and time of change, which nobody can set: of a copy, as in a stranger's bundle, they are others."""
    there = path.lstat()
    return there.st_uid, there.st_ino, there.st_ctime_ns


def _noted(path: Path) -> PartRecord | None:
    """What a finished part's note says, if the part is there, was built there by this user, and is as it says."""
    try:
        note = msgspec.json.decode(read_regular(_note(path), _MAX_NOTE_BYTES), type=_Note)
        if note.made[0] != os.geteuid() or note.made != _identity(path):
            return None
        return note.part if _hashed(path) == _File.of(note.part) else None
    except (OSError, ValueError, msgspec.DecodeError):  # none, or one that was being written; an empty file
        return None
