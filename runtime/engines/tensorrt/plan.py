"""A plan and the side file that says what it is; nothing is deserialised before both were checked.

`plans/<backend>-<version>-sm<NN>.plan` is TensorRT's serialized engine and nothing else, so that trtexec
loads it; so is each `.part` of a plan that was built in parts, of which no file of the first name is there.
`<plan>.json` is a `PlanRecord`. A plan without its record is not used: a plan runs
only on the TensorRT version and GPU architecture that it was built for, and TensorRT's own refusal comes
late and in words that do not say what to do.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import FileEntry
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.regular_file import open_regular, read_regular
from vla_edge.runtime.process.cores import usable_cores

from . import record_before
from .library import DEFAULT_BACKEND, Backend
from .plan_header import read_header
from .plan_names import (
    PLANS_FOLDER,
    REJECTED_SUFFIX,
    backend_of,
    backend_option,
    dotted,
    plan_path,
    plans_in,
    record_path,
)
from .record import WHOLE, Machine, PartRecord, PlanRecord

_log = logging.getLogger(__name__)

CHUNK_BYTES = 64 << 20
_MAX_RECORD_BYTES = 8 << 20
_MAX_HASH_THREADS = 8


class _Head(Struct):
    """Enough of a side file to know its version."""

    record_version: Any = None


@dataclass(frozen=True)
class PlanFile:
    """A plan that belongs to this bundle and this machine."""

    path: Path
    record: PlanRecord
    # of the bundle: messages name it, also while a plan is still checked in another folder
    folder: Path

    @property
    def hint(self) -> str:
        return _build(self.folder, self.record.machine.backend)

    def file(self, part: PartRecord) -> Path:
        """Where a part lies; of a plan that is not cut, `path`, which may have another name while it is checked."""
        return self.path if part.name == WHOLE else self.path.with_name(part.file)


def read_record(plan: Path, folder: Path) -> PlanRecord:
    """Read the side file of a plan.

    Args:
        plan: the plan, which is not opened.
        folder: of the bundle, for the command to run.

    Raises:
        EngineError: it is missing, damaged, or of another version.
    """
    path, hint = record_path(plan), _build(folder, backend_of(plan.name) or DEFAULT_BACKEND)
    try:
        data = read_regular(path, _MAX_RECORD_BYTES)
    except FileNotFoundError as error:
        raise EngineError(f"{plan} has no side file {path.name}: its build did not end.", hint) from error
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    try:
        version = msgspec.json.decode(data, type=_Head).record_version
        if version in (1, 2):
            return record_before.decode(data, version)
        return msgspec.json.decode(data, type=PlanRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError(f"{path} is not a valid side file: {error}.", hint) from error


def require_readable(bundle: Bundle, backend: Backend) -> None:
    """Refuse plans of a library whose side files are all broken: no library, driver or GPU would change that.

    Raises:
        EngineError: as `read_record`, of the first of them.
    """
    broken = None
    for name in plans_in(bundle.folder):
        if backend_of(name) == backend:
            try:
                read_record(bundle.folder / PLANS_FOLDER / name, bundle.folder)
            except EngineError as error:
                broken = broken or error
            else:
                return
    if broken:
        raise broken


def find_plan(bundle: Bundle, machine: Machine) -> PlanFile:
    """The bundle's plan for this machine, its record read and compared; its files are not opened.

    Raises:
        EngineError: there is none, or its record says that it is another machine's or another bundle's.
    """
    path = plan_path(bundle.folder, machine.backend, machine.version, machine.sm)
    if path.name not in plans_in(bundle.folder):
        raise _no_plan(bundle, path, machine)
    return check_record(PlanFile(path, read_record(path, bundle.folder), bundle.folder), bundle, machine)


def check_record(plan: PlanFile, bundle: Bundle, machine: Machine) -> PlanFile:
    """Refuse a plan whose record names another machine or another bundle.

    Raises:
        EngineError: which of them differs, both values, and the command to run.
    """
    theirs, hint = plan.record.machine, _build(plan.folder, machine.backend)
    if theirs.backend != machine.backend:
        raise EngineError(f"{plan.path} is a plan of {theirs.backend}, not of {machine.backend}.", hint)
    if theirs.version != machine.version:
        raise EngineError(
            f"{plan.path} was built by TensorRT {theirs.version}; this machine runs {machine.version}.", hint
        )
    if theirs.sm != machine.sm:
        raise EngineError(
            f"{plan.path} was built for SM {dotted(theirs.sm)} ({theirs.gpu or 'no GPU named'}); "
            f"this GPU has SM {dotted(machine.sm)} ({machine.gpu}).",
            hint,
        )
    if plan.record.model != model_files(bundle):
        raise EngineError(f"{plan.path} was built from another model than {bundle.folder} holds now.", hint)
    if plan.record.manifest_sha256 != bundle.manifest_sha256:
        raise EngineError(
            f"{plan.path} was built when the manifest was another one "
            f"({plan.record.manifest_sha256[:12]}, now {bundle.manifest_sha256[:12]}).",
            hint,
        )
    if theirs.gpu not in (None, machine.gpu):
        _log.warning(
            "%s was built on a %s, its kernels may not be the fastest of this %s",
            plan.path,
            theirs.gpu,
            machine.gpu,
        )
    return plan


def require_verified(plan: PlanFile) -> None:
    """Refuse a plan whose golden samples were never run, or did not pass.

    Raises:
        EngineError: with the reason from the record.
    """
    verification = plan.record.verification
    if verification.passed:
        return
    if verification.passed is None:
        raise EngineError(
            f"{plan.path} was never checked against the golden samples: {verification.note}",
            f"Check it on this machine: vla-build --verify {plan.folder}"
            f"{backend_option(plan.record.machine.backend)}",
        )
    raise EngineError(
        f"{plan.path} missed its gates: {verification.note}",
        "Check it again with --verify, or build another: "
        f"vla-build {plan.folder}{backend_option(plan.record.machine.backend)}",
    )


def model_files(bundle: Bundle) -> tuple[FileEntry, ...]:
    """The manifest's entries of the graph and its weights, in the order of their names."""
    entries = (entry for entry in bundle.manifest.files if entry.path.startswith("model."))
    return tuple(sorted(entries, key=lambda entry: entry.path))


@contextmanager
def open_part(plan: PlanFile, part: PartRecord) -> Iterator[mmap.mmap]:
    """Map a part of a plan into memory after its size, header and every byte of it were checked.

    A map rather than a read or a stream reader: TensorRT reads the pages of the file themselves, so no
    second copy of the weights is held, and the kernel may drop them again. NVIDIA says of the stream
    reader's Python binding that it gains nothing over deserialising from memory
    (`IStreamReaderV2` of TensorRT 10.16); each of its reads is a copy.

    Raises:
        EngineError: truncated, of another TensorRT version, or changed since it was built.
    """
    path = plan.file(part)
    try:
        file = open_regular(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}.", plan.hint) from error
    with file:
        _check_size(plan, part, os.fstat(file.fileno()).st_size)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            _check_header(plan, part, image)
            _check_hashes(plan, part, image)
            yield image


def hash_plan(image: memoryview) -> tuple[str, tuple[str, ...]]:
    """SHA-256 of the whole plan and of each chunk of it; the chunks on other cores meanwhile."""
    with ThreadPoolExecutor(_hash_threads()) as pool:
        starts = range(0, image.nbytes, CHUNK_BYTES)
        chunks = pool.map(lambda at: hashlib.sha256(image[at : at + CHUNK_BYTES]).hexdigest(), starts)
        return hashlib.sha256(image).hexdigest(), tuple(chunks)


def _hash_threads() -> int:
    return min(_MAX_HASH_THREADS, usable_cores())


def _check_size(plan: PlanFile, part: PartRecord, size: int) -> None:
    if size != part.size_bytes:
        how = "truncated" if size < part.size_bytes else "longer than it was"
        raise EngineError(
            f"{plan.file(part)} is {how}: {size} bytes, its side file says {part.size_bytes}.",
            plan.hint,
        )


def _check_header(plan: PlanFile, part: PartRecord, image: mmap.mmap) -> None:
    header = read_header(image[:64])
    version = plan.record.machine.version
    if header is not None and not header.is_version(version):
        raise EngineError(
            f"{plan.file(part)} has the header of TensorRT {header}, but its side file says {version}.",
            plan.hint,
        )


def _check_hashes(plan: PlanFile, part: PartRecord, image: mmap.mmap) -> None:
    """All chunks at once on several cores: 3.4 GB in a fraction of a second instead of two."""
    # The side file is hostile too: chunks of one byte would queue a hash for each byte.
    chunks = -(-part.size_bytes // part.chunk_bytes)
    if len(part.chunk_sha256) != chunks:
        raise EngineError(
            f"{record_path(plan.path)} has {len(part.chunk_sha256)} hashes for {chunks} chunks of "
            f"{part.chunk_bytes} bytes.",
            plan.hint,
        )
    starts = range(0, part.size_bytes, part.chunk_bytes)
    with memoryview(image) as view, ThreadPoolExecutor(_hash_threads()) as pool:

        def digest(start: int) -> str:
            with view[start : start + part.chunk_bytes] as piece:
                return hashlib.sha256(piece).hexdigest()

        digests = tuple(pool.map(digest, starts))
    if digests != part.chunk_sha256:
        raise EngineError(
            f"{plan.file(part)} was changed since it was built: its SHA-256 is not the side file's.",
            plan.hint,
        )


def _no_plan(bundle: Bundle, path: Path, machine: Machine) -> EngineError:
    others = plans_in(bundle.folder)
    have = f"it has {', '.join(others)}" if others else "it has none yet"
    rejected = path.with_name(path.name + REJECTED_SUFFIX)
    if rejected.is_file() or record_path(rejected).is_file():
        have += f", and {rejected.name}, which missed its gates"
    return EngineError(
        f"{bundle.folder} has no plan for {machine.backend} {machine.version} on SM {dotted(machine.sm)}: {have}.",
        _build(bundle.folder, machine.backend),
    )


def _build(folder: Path, backend: str) -> str:
    return f"Build it on this machine: vla-build {folder}{backend_option(backend)}"
