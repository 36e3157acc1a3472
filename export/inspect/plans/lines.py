"""The plans of a bundle as plain data, and what is wrong with any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, model_files, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLAN_SUFFIX,
    PLANS_FOLDER,
    RECORD_SUFFIX,
    REJECTED_SUFFIX,
    record_path,
)
from vla_edge.runtime.engines.tensorrt.record import PartRecord, PlanRecord
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.regular_file import regular_size

from .beside import Beside
from .contents import Progress, hash_problem, size_of, unreadable

# A bundle has a few plans of a few parts; a folder with more is looked at no further.
_MOST_FILES = 500


@dataclass(frozen=True)
class PartLine:
    """One file of a plan.

    Attributes:
        record: what the side file says of it.
        problem: why it cannot be used; empty where nothing is wrong.
        shared: names of bundles beside that have this very file too, so that it takes the disk once.
        copies: names of bundles beside that have a copy of it.
    """

    record: PartRecord
    problem: str
    shared: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanLine:
    """A plan beside the model; `record` is None, and there are no parts, where its side file cannot be read."""

    name: str
    size_bytes: int | None
    rejected: bool
    record: PlanRecord | None
    parts: tuple[PartLine, ...]
    hashed: bool
    problem: str


def plans_of(folder: Path) -> list[Path]:
    """Plans and rejected plans, and side files whose plan is gone."""
    try:
        names = [path.name for path in islice((folder / PLANS_FOLDER).iterdir(), _MOST_FILES)]
    except OSError:
        return []
    plans = {name.removesuffix(RECORD_SUFFIX) for name in names if not name.startswith(".")}
    known = (PLAN_SUFFIX, PLAN_SUFFIX + REJECTED_SUFFIX)
    return [folder / PLANS_FOLDER / name for name in sorted(plans) if name.endswith(known)]


def plan_line(path: Path, bundle: Bundle, beside: Beside, hashed: bool, progress: Progress) -> PlanLine:
    """Look at a plan, sound or not; with `hashed` at every byte of it."""
    rejected = path.name.endswith(REJECTED_SUFFIX)
    try:
        regular_size(record_path(path))  # before it is opened: a pipe would be waited for
        record = read_record(path, bundle.folder)
    except EngineError as error:
        return PlanLine(path.name, size_of(path), rejected, None, (), False, error.problem)
    except OSError:
        problem = f"{path} has no side file {record_path(path).name}: its build did not end."
        return PlanLine(path.name, size_of(path), rejected, None, (), False, problem)
    plan = PlanFile(path, record, bundle.folder)
    parts = [_part(plan.file(part), part, beside) for part in record.parts]
    problem = next((part.problem for part in parts if part.problem), "") or _of_another(path, record, bundle)
    if hashed and not problem:
        parts = [_hashed(plan.file(part.record), part, progress) for part in parts]
        problem = next((part.problem for part in parts if part.problem), "")
    sizes = [size_of(plan.file(part)) for part in record.parts]
    whole = None if None in sizes else sum(size for size in sizes if size is not None)
    return PlanLine(path.name, whole, rejected, record, tuple(parts), hashed and not problem, problem)


def _part(file: Path, part: PartRecord, beside: Beside) -> PartLine:
    found = size_of(file)
    if found is None:
        problem = f"{file} is missing or no regular file; only its side file is there."
    elif not (problem := unreadable(file)) and found != part.size_bytes:
        problem = f"{file} has {found} bytes, its side file says {part.size_bytes}."
    return PartLine(part, problem, *beside.shared_with(file))


def _hashed(file: Path, line: PartLine, progress: Progress) -> PartLine:
    return replace(line, problem=hash_problem(file, line.record.sha256, "its side file", progress))


def _of_another(path: Path, record: PlanRecord, bundle: Bundle) -> str:
    if record.model != model_files(bundle):
        return f"{path} was built from another model than the bundle holds now."
    if record.manifest_sha256 != bundle.manifest_sha256:
        return f"{path} was built when the manifest was another one."
    return ""
