"""From a packed file to the policy that a robot runs next; the one that runs stays until the new one is proven.

The order: what can be known at once; unpack beside the others; build and check; keep the result; switch the link;
remove older ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import BuildProgress, Silent
from vla_edge.export.build.verify import utc_now
from vla_edge.export.packed.blocks import nothing
from vla_edge.export.packed.packed import Packed
from vla_edge.export.packed.unpack import Origins, unpack
from vla_edge.runtime.bundle.bundle import Bundle, find_bundles
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND
from vla_edge.runtime.engines.tensorrt.record import PlanVerification
from vla_edge.runtime.errors import BundleError, InputError

from .beforehand import read_all, require_disk, require_engine
from .prove import prove
from .record import DeployRecord, read_record, write_record
from .root import (
    CURRENT,
    PREVIOUS,
    deployed_in,
    discard,
    folder_name,
    folder_of,
    next_number,
    opened_root,
    remove_older,
    switch,
    switch_back,
    tidy,
)

_log = logging.getLogger(__name__)


class Screen(Protocol):
    """Shows how far the work is."""

    def unpacking(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """Yields what is called with numbers of bytes done."""

    def reading(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """The same, of a file of which nothing needs to be unpacked."""

    def remark(self, text: str) -> None:
        """Something to know, such as what a failure has left."""

    def proving(self) -> AbstractContextManager[BuildProgress]: ...


class NoScreen:
    """Shows nothing."""

    def unpacking(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(nothing)

    def reading(self, size_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(nothing)

    def remark(self, text: str) -> None:
        return None

    def proving(self) -> AbstractContextManager[BuildProgress]:
        return nullcontext(Silent())


@dataclass(frozen=True)
class DeployOptions:
    """How to deploy.

    Attributes:
        backend: the engine that will run, see `prove`.
        build: build what is missing and check golden samples; else only hashes are checked.
        keep: how many deployed bundles stay, current and previous among them.
        plan: how a plan is built, and for which GPU; its backend is this one's.
    """

    backend: str = DEFAULT_BACKEND
    build: bool = True
    keep: int = 2
    plan: BuildOptions = field(default_factory=BuildOptions)


@dataclass(frozen=True)
class Deployment:
    """What was done.

    Attributes:
        folder: the current bundle now.
        previous: the one before, to which `roll_back` goes.
        origins: of the unpacked bytes; None where the bundle was there already.
        verification: of golden samples, now or earlier; None where none were ever run.
        proven_now: whether they were run now.
        removed: older ones that are gone.
    """

    folder: Path
    previous: Path | None
    origins: Origins | None
    verification: PlanVerification | None
    proven_now: bool
    removed: tuple[Path, ...]


def deploy(packed: Packed, root: Path, options: DeployOptions, screen: Screen | None = None) -> Deployment:
    """Make a packed bundle the current one of a robot's folder.

    Args:
        packed: open.
        root: where the robot keeps its bundles; made where it is not there.
        options: how.
        screen: shows the work.

    Raises:
        VlaError: as `unpack` and `prove`, or another deploy is at work; `current` is what it was.
    """
    screen = screen or NoScreen()
    with opened_root(root):
        with _tells_what_is_left(packed, root, screen):
            if options.build:
                require_engine(options.backend, options.plan)
            bundle, origins = _placed(packed, root, options, screen)
            verification = None
            if options.build:
                with screen.proving() as progress:
                    verification = prove(bundle, options.backend, options.plan, progress)
            record = _kept_record(bundle, options, verification, next_number(root))
        switch(root, root / bundle.folder.name)
        removed = remove_older(root, options.keep)
        tidy(root)
        return Deployment(
            folder=bundle.folder,
            previous=folder_of(root, PREVIOUS),
            origins=origins,
            verification=record.verification,
            proven_now=verification is not None,
            removed=tuple(removed),
        )


def roll_back(root: Path, to: str | None = None) -> Path:
    """Make the previous bundle the current one, and the current one the previous; or `to` the current one.

    Args:
        root: where bundles were deployed.
        to: the name of another folder there.

    Returns:
        The current bundle now.

    Raises:
        InputError: there is none to go back to.
        BundleError: it is damaged; `current` is what it was.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder.", "Give the folder into which vla-bundle deploy put bundles."
        )
    with opened_root(root):
        running = folder_of(root, CURRENT)
        target = folder_of(root, PREVIOUS) if to is None else _named(root, to)
        if to is not None and target == running:
            raise InputError(
                f"{to} is the current bundle of {root} already.", f"See what is there: vla-bundle list {root}"
            )
        if target is None or target == running:
            raise InputError(
                f"{root} has no other bundle to go back to.", f"See what is there: vla-bundle list {root}"
            )
        Bundle.open(target)
        if to is None and running is not None:
            switch_back(root, target)
        else:
            switch(root, target)
        tidy(root)
        return target


def _named(root: Path, name: str) -> Path:
    found = [path for path in deployed_in(root) if path.name == name]
    if not found:
        raise InputError(f"{name} was not deployed in {root}.", f"See what is there: vla-bundle list {root}")
    return found[0]


@contextmanager
def _tells_what_is_left(packed: Packed, root: Path, screen: Screen) -> Iterator[None]:
    """After a failure, Ctrl-C among them: which policy runs next, and from where the same command goes on."""
    try:
        yield
    except BaseException:
        running = folder_of(root, CURRENT)
        stays = f"current is what it was, {running.name}" if running else "nothing is current, as before"
        folder = _folder(packed, root)
        here = folder.is_dir() and folder != running
        screen.remark(f"{stays}; {folder} stays: the same command goes on from it" if here else stays)
        raise


def _folder(packed: Packed, root: Path) -> Path:
    return root / folder_name(packed.index.name, packed.index.manifest_sha256)


def _placed(
    packed: Packed, root: Path, options: DeployOptions, screen: Screen
) -> tuple[Bundle, Origins | None]:
    """The bundle in its folder, unpacked now unless it is there and sound; the file is read in any case."""
    folder = _folder(packed, root)
    if os.path.lexists(folder):
        with screen.reading(packed.index.packed_bytes) as advance:
            read_all(packed, advance)
        try:
            bundle = Bundle.open(folder)
            if bundle.manifest_sha256 == packed.index.manifest_sha256:
                return bundle, None
            problem = f"{folder} is another bundle than its name says."
        except BundleError as error:
            problem = error.problem
        if folder == folder_of(root, CURRENT):
            raise BundleError(
                f"the current bundle is damaged: {problem}",
                f"Go back (vla-bundle rollback {root}), or stop the policy and delete {folder}; then deploy again.",
            )
        _log.warning("%s It is unpacked again.", problem)
        discard(folder)
    if options.build:
        require_disk(packed, root, folder, options.backend)
    with screen.unpacking(packed.index.bundle_bytes) as advance:
        origins = unpack(packed, folder, _bases(packed, root), advance)
    return Bundle.open(folder, "size"), origins


def _bases(packed: Packed, root: Path) -> list[Bundle]:
    """Every bundle of the root that can be opened, the one that is most likely to have the blocks first."""
    bases = [bundle for path in find_bundles(root) if (bundle := _opened(path))]
    since = packed.index.since.manifest_sha256 if packed.index.since else ""
    running = folder_of(root, CURRENT)
    likely = running.absolute() if running else None
    return sorted(bases, key=lambda base: (base.manifest_sha256 != since, base.folder != likely))


def _opened(path: Path) -> Bundle | None:
    try:
        return Bundle.open(path, "size")
    except BundleError as error:
        _log.info("nothing is taken from %s: %s", path, error.problem)
        return None


def _kept_record(
    bundle: Bundle, options: DeployOptions, verification: PlanVerification | None, number: int
) -> DeployRecord:
    """What is known of the bundle here; of a run without checks, an earlier one's result stays."""
    earlier = read_record(bundle.folder, bundle.manifest_sha256)
    if verification is None and earlier is not None:
        record = msgspec.structs.replace(earlier, number=number)
    else:
        record = DeployRecord(
            manifest_sha256=bundle.manifest_sha256,
            backend=options.backend,
            deployed_utc=utc_now(),
            verification=verification,
            number=number,
        )
    write_record(bundle, record)
    return record
