"""What a bundle holds, as plain data, and what is wrong with it. Needs no torch: robots have this too.

Everything in a bundle may be damaged or hostile: what cannot be read becomes a problem in words, and the rest is
shown all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from vla_edge.export.families import asking, family_of_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest, Setting
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, model_files, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLAN_SUFFIX,
    PLANS_FOLDER,
    RECORD_SUFFIX,
    REJECTED_SUFFIX,
    record_path,
)
from vla_edge.runtime.engines.tensorrt.record import PartRecord, PlanRecord
from vla_edge.runtime.errors import BundleError, EngineError, InputError
from vla_edge.runtime.files.digest import sha256_of_open
from vla_edge.runtime.files.regular_file import open_regular, regular_size

from .machine import Here, ThisMachine, runs_here

Certainty = Literal["chosen", "guessed", "likely", "certain", "without effect"]
Progress = Callable[[int], None]

# A bundle has five files and a few plans; a folder with more is looked at no further.
_MOST_FILES = 200


@dataclass(frozen=True)
class SettingLine:
    """A setting of the forward pass and how sure it is.

    `certainty` is "chosen" by whoever exported; "guessed" where nobody knows and it matters; "likely" from the
    training code; "certain" by it or by the checkpoint; "without effect" in this policy.
    """

    name: str
    value: Any
    origin: str
    standing: str
    certainty: Certainty


@dataclass(frozen=True)
class FileLine:
    """A listed file; `hashed` tells whether its SHA-256 was compared, `problem` is empty where all is right."""

    path: str
    size_bytes: int
    sha256: str
    hashed: bool
    problem: str


@dataclass(frozen=True)
class PlanLine:
    """A plan beside the model; `record` is None where its side file cannot be read."""

    name: str
    size_bytes: int | None
    rejected: bool
    record: PlanRecord | None
    hashed: bool
    problem: str


@dataclass(frozen=True)
class BundleReport:
    """One bundle: what `vla-inspect` shows.

    Attributes:
        folder: as the user wrote it.
        bundle: its manifest; None where that is not valid.
        settings: in the order of the manifest.
        files: those that the manifest lists.
        unlisted: other files in the folder, which nothing reads.
        plans: by name.
        here: how it runs on this machine; None where it is damaged, since then nothing takes it.
        problems: what is wrong, beyond single files and plans.
    """

    folder: Path
    bundle: Bundle | None
    settings: tuple[SettingLine, ...]
    files: tuple[FileLine, ...]
    unlisted: tuple[str, ...]
    plans: tuple[PlanLine, ...]
    here: Here | None
    problems: tuple[str, ...]

    @property
    def damage(self) -> tuple[str, ...]:
        """Why no engine takes it."""
        return (*self.problems, *(line.problem for line in self.files if line.problem))

    @property
    def all_problems(self) -> tuple[str, ...]:
        """The damage, and why plans cannot be used."""
        return (*self.damage, *(line.problem for line in self.plans if line.problem))

    @property
    def readable(self) -> bool:
        return self.bundle is not None


def inspect_bundle(
    folder: Path, machine: ThisMachine, hashed: bool = False, progress: Progress = lambda size_bytes: None
) -> BundleReport:
    """Look at a bundle, sound or not.

    Args:
        folder: holds manifest.json.
        machine: where it is asked to run.
        hashed: compare the SHA-256 of every file and plan too.
        progress: is called with numbers of bytes hashed.

    Raises:
        BundleError: there is no manifest at all.
    """
    try:
        bundle = Bundle.unchecked(folder)
    except BundleError as error:
        if not _has_manifest(folder):
            raise
        return BundleReport(folder, None, (), (), _unlisted(folder, ()), (), None, (error.problem,))
    files = tuple(_file(bundle, entry, hashed, progress) for entry in bundle.manifest.files)
    plans = tuple(_plan(path, bundle, hashed, progress) for path in _plans(bundle.folder))
    broken = any(line.problem for line in files)
    problems = () if broken else _other_problems(bundle)
    return BundleReport(
        folder=folder,
        bundle=bundle,
        settings=setting_lines(bundle.manifest),
        files=files,
        unlisted=_unlisted(bundle.folder, bundle.manifest.files),
        plans=plans,
        here=None if broken or problems else runs_here(bundle, machine),
        problems=problems,
    )


def bytes_to_hash(folder: Path) -> int:
    """What `inspect_bundle` will count to; 0 where the manifest cannot be read."""
    try:
        files = Bundle.unchecked(folder).manifest.files
    except BundleError:
        return 0
    return sum(entry.size_bytes for entry in files) + sum(_size(path) or 0 for path in _plans(folder))


def setting_lines(manifest: Manifest) -> tuple[SettingLine, ...]:
    """Every setting with its certainty."""
    try:
        family = family_of_bundle(manifest)
        with asking(family):
            guessed = {guess.name for guess in family.guesses(manifest)}
            probable = set(family.likely(manifest))
    # of a manifest that was edited, by another version or another family: as their standing says
    except InputError:
        guessed = {name for name, one in manifest.settings.items() if "unknown" in one.standing}
        probable = {name for name, one in manifest.settings.items() if one.standing.startswith("likely")}
    return tuple(
        SettingLine(name, one.value, one.origin, one.standing, _certainty(name, one, guessed, probable))
        for name, one in manifest.settings.items()
    )


def _certainty(name: str, setting: Setting, guessed: set[str], probable: set[str]) -> Certainty:
    if setting.origin in ("option", "file"):
        return "chosen"
    if setting.origin == "checkpoint":
        return "certain"
    if setting.origin == "episodes":
        return "certain" if setting.standing.startswith("exact") else "likely"
    if name in guessed:
        return "guessed"
    if name in probable:
        return "likely"
    return "certain" if setting.standing.startswith("exact") else "without effect"


def _has_manifest(folder: Path) -> bool:
    try:
        (folder / MANIFEST_NAME).lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # a folder that must not be searched: its damage is shown
        return True
    return True


def _other_problems(bundle: Bundle) -> tuple[str, ...]:
    """What opening it would refuse beside single files: a required one that is not listed, the graph's data."""
    try:
        _ = Bundle.open(bundle.folder, verify="size").model_path
    except BundleError as error:
        return (error.problem,)
    return ()


def _file(bundle: Bundle, entry: FileEntry, hashed: bool, progress: Progress) -> FileLine:
    problem = ""
    try:
        path = bundle.locate(entry)
        problem = _hash_problem(path, entry.sha256, "the manifest", progress) if hashed else _unreadable(path)
    except BundleError as error:
        problem = error.problem
    return FileLine(entry.path, entry.size_bytes, entry.sha256, hashed and not problem, problem)


def _unreadable(path: Path) -> str:
    try:
        open_regular(path).close()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return ""


def _hash_problem(path: Path, wanted: str, says: str, progress: Progress) -> str:
    try:
        with open_regular(path) as file:
            found = sha256_of_open(file, progress)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return "" if found == wanted else f"{path} was changed: its SHA-256 is {found}, {says} says {wanted}."


def _plans(folder: Path) -> list[Path]:
    """Plans and rejected plans, and side files whose plan is gone."""
    try:
        names = [path.name for path in islice((folder / PLANS_FOLDER).iterdir(), _MOST_FILES)]
    except OSError:
        return []
    plans = {name.removesuffix(RECORD_SUFFIX) for name in names if not name.startswith(".")}
    known = (PLAN_SUFFIX, PLAN_SUFFIX + REJECTED_SUFFIX)
    return [folder / PLANS_FOLDER / name for name in sorted(plans) if name.endswith(known)]


def _plan(path: Path, bundle: Bundle, hashed: bool, progress: Progress) -> PlanLine:
    size_bytes, record, problem = _size(path), None, ""
    files: list[tuple[Path, PartRecord]] = []
    rejected = path.name.endswith(REJECTED_SUFFIX)
    try:
        regular_size(record_path(path))  # before it is opened: a pipe would be waited for
        record = read_record(path, bundle.folder)
        plan = PlanFile(path, record, bundle.folder)
        files = [(plan.file(part), part) for part in record.parts]
        size_bytes = _sum(_size(file) for file, _ in files)
        problem = _plan_problem(path, files, record, bundle)
    except EngineError as error:
        problem = error.problem
    except OSError:
        problem = f"{path} has no side file {record_path(path).name}: its build did not end."
    for file, part in files if hashed and not problem else ():
        problem = problem or _hash_problem(file, part.sha256, "its side file", progress)
    return PlanLine(path.name, size_bytes, rejected, record, hashed and not problem, problem)


def _plan_problem(
    path: Path, files: list[tuple[Path, PartRecord]], record: PlanRecord, bundle: Bundle
) -> str:
    for file, part in files:
        found = _size(file)
        if found is None:
            return f"{file} is missing or no regular file; only its side file is there."
        if problem := _unreadable(file):
            return problem
        if found != part.size_bytes:
            return f"{file} has {found} bytes, its side file says {part.size_bytes}."
    if record.model != model_files(bundle):
        return f"{path} was built from another model than the bundle holds now."
    if record.manifest_sha256 != bundle.manifest_sha256:
        return f"{path} was built when the manifest was another one."
    return ""


def _sum(sizes: Iterable[int | None]) -> int | None:
    """None where one of them is not known."""
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


def _size(path: Path) -> int | None:
    try:
        return regular_size(path)
    except OSError:
        return None


def _unlisted(folder: Path, files: tuple[FileEntry, ...]) -> tuple[str, ...]:
    listed = {MANIFEST_NAME, PLANS_FOLDER, *(entry.path.split("/")[0] for entry in files)}
    try:
        names = sorted(path.name for path in islice(folder.iterdir(), _MOST_FILES))
    except OSError:
        return ()
    return tuple(name for name in names if name not in listed)
