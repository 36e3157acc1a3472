"""Plans that are here already, of this bundle and of those beside it: their parts, and what building them took."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla_edge.runtime.bundle.finding import find_bundles
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER, plan_path, record_path, rejected_in
from vla_edge.runtime.engines.tensorrt.record import Machine, PartRecord, PlanRecord
from vla_edge.runtime.errors import BundleError, EngineError

_log = logging.getLogger(__name__)

_MOST_BUNDLES = 256  # beside each other; further ones are not looked at


@dataclass(frozen=True)
class Kept:
    """A part of a plan whose golden samples passed.

    Attributes:
        plan: with its record.
        part: of it.
    """

    plan: PlanFile
    part: PartRecord

    @property
    def path(self) -> Path:
        return self.plan.file(self.part)

    def is_sound(self) -> bool:
        """Whether the file is what its record says, to the last byte."""
        try:
            with open_part(self.plan, self.part):
                return True
        except EngineError as error:
            _log.warning("nothing is taken from %s: %s", self.path, error.problem)
            return False


@dataclass(frozen=True)
class Earlier:
    """What plans for one machine have.

    Attributes:
        parts: by their key.
        splits: where such plans of several parts were cut, each once.
        built: every part that was built for that machine, checked or not: its memory was measured.
    """

    parts: dict[str, Kept] = field(default_factory=dict)
    splits: tuple[tuple[str, ...], ...] = ()
    built: tuple[PartRecord, ...] = ()


def find_earlier(folder: Path, machine: Machine) -> Earlier:
    """Read the side files of a bundle's plans and of those beside it; no plan is opened.

    What a gate has refused is not among the parts, whatever other plan holds the same bytes.

    Args:
        folder: of the bundle, whose own plans come first.
        machine: that they must have been built for, and on.
    """
    records = [(at, plan.record, plan) for at in _bundles(folder) if (plan := _read(at, machine))]
    rejected = {part.sha256 for at in _bundles(folder) for part in _rejected(at, machine)}
    parts: dict[str, Kept] = {}
    splits: dict[tuple[str, ...], None] = {}
    built: list[PartRecord] = []
    for _, record, plan in records:
        built += [part for part in record.parts if part.build.found_in is None]
        if not record.verification.passed:
            continue
        sound = [part for part in record.parts if part.key is not None and part.sha256 not in rejected]
        for part in sound:
            parts.setdefault(str(part.key), Kept(plan, part))
        if len(record.parts) > 1 and sound:
            splits[tuple(part.name for part in record.parts[:-1])] = None
    return Earlier(parts, tuple(splits), tuple(built))


def _bundles(folder: Path) -> list[Path]:
    own = folder.resolve()
    try:
        beside = [path for path in find_bundles(own.parent) if path.resolve() != own]
    except BundleError:  # it may be entered, but not listed
        beside = []
    return [folder, *beside[:_MOST_BUNDLES]]


def _read(bundle: Path, machine: Machine) -> PlanFile | None:
    path = plan_path(bundle, machine.backend, machine.version, machine.sm)
    record = _record_of(path, bundle, machine)
    return PlanFile(path, record, bundle) if record else None


def _rejected(bundle: Path, machine: Machine) -> Iterator[PartRecord]:
    for name in rejected_in(bundle):
        record = _record_of(bundle / PLANS_FOLDER / name, bundle, machine)
        yield from record.parts if record else ()


def _record_of(path: Path, bundle: Path, machine: Machine) -> PlanRecord | None:
    """The side file, if there is one, it can be read, and is of a plan for this machine."""
    if not record_path(path).exists():
        return None
    try:
        record = read_record(path, bundle)
    except EngineError as error:
        _log.info("%s", error.problem)
        return None
    theirs = record.machine
    same = (theirs.backend, theirs.version, theirs.sm, theirs.gpu) == (
        machine.backend,
        machine.version,
        machine.sm,
        machine.gpu,
    )
    return record if same else None
