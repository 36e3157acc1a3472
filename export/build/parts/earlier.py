"""Plans that are here already, of this bundle and of those beside it: their parts, and what building them took."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla_edge.runtime.bundle.finding import find_bundles
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import plan_path, record_path
from vla_edge.runtime.engines.tensorrt.record import Machine, PartRecord
from vla_edge.runtime.errors import BundleError, EngineError

_log = logging.getLogger(__name__)

_MOST_BUNDLES = 256  # beside each other; further ones are not looked at
_NAMED = 3  # of plans that are not taken


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


@dataclass(frozen=True)
class Earlier:
    """What plans for one machine have.

    Attributes:
        parts: by their key.
        splits: where such plans of several parts were cut, each once.
        built: every part of plans for that machine, checked or not: the memory of its build was measured.
        unchecked: plans of several parts, of which none is taken.
    """

    parts: dict[str, Kept] = field(default_factory=dict)
    splits: tuple[tuple[str, ...], ...] = ()
    built: tuple[PartRecord, ...] = ()
    unchecked: tuple[PlanFile, ...] = ()

    def whose(self, key: str | None, folder: Path) -> str:
        """The folder of the bundle whose part of that key is taken, for the bundle in `folder`.

        Not the name in its manifest: bundles that were deployed can have one name.
        """
        return _called(self.parts[key].plan.folder, folder) if key in self.parts else "another bundle"

    def not_taken(self, folder: Path) -> Iterator[str]:
        """A line where plans in parts were never checked."""
        if self.unchecked:
            names = [_called(plan.folder, folder) for plan in self.unchecked[:_NAMED]]
            more = f" and {len(self.unchecked) - _NAMED} more" if len(self.unchecked) > _NAMED else ""
            yield (
                f"no parts are taken of {', '.join(names)}{more}: never checked "
                "(vla-build --verify, where its GPU is)"
            )


def _called(bundle: Path, folder: Path) -> str:
    return "itself" if bundle == folder else bundle.resolve().name


def find_earlier(folder: Path, machine: Machine) -> Earlier:
    """Read the side files of a bundle's plans and of those beside it; no plan is opened.

    A part is good where a plan of it passed its golden samples. It stays so when another plan that has it is set
    aside: what was bad there is in a part that no plan passed with.

    Args:
        folder: of the bundle, whose own plans come first.
        machine: that they must have been built for, and on.
    """
    parts: dict[str, Kept] = {}
    splits: dict[tuple[str, ...], None] = {}
    built: list[PartRecord] = []
    unchecked: list[PlanFile] = []
    for plan in filter(None, (_read(at, machine) for at in _bundles(folder))):
        record = plan.record
        built += record.parts
        if not record.verification.passed:
            if len(record.parts) > 1 and record.verification.passed is None:
                unchecked.append(plan)
            continue
        for part in record.parts:
            if part.key is not None:
                parts.setdefault(part.key, Kept(plan, part))
        if len(record.parts) > 1:
            splits[tuple(part.name for part in record.parts[:-1])] = None
    return Earlier(parts, tuple(splits), tuple(built), tuple(unchecked))


def _bundles(folder: Path) -> list[Path]:
    own = folder.resolve()
    try:
        beside = [path for path in find_bundles(own.parent) if path.resolve() != own]
    except BundleError:  # it may be entered, but not listed
        beside = []
    return [folder, *beside[:_MOST_BUNDLES]]


def _read(bundle: Path, machine: Machine) -> PlanFile | None:
    """The plan for this machine by its side file, if there is one that can be read."""
    path = plan_path(bundle, machine.backend, machine.version, machine.sm)
    if not os.path.lexists(record_path(path)):
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
    names = {part.name for part in record.parts}
    return PlanFile(path, record, bundle) if same and len(names) == len(record.parts) else None
