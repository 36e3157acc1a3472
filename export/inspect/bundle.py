"""What a bundle holds, as plain data, and what is wrong with it. Needs no torch: robots have this too.

Everything in a bundle may be damaged or hostile: what cannot be read becomes a problem in words, and the rest is
shown all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from vla_edge.export.families import asking, family_of_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest, Setting
from vla_edge.runtime.engines.tensorrt.plan_names import PART_SUFFIX, PLANS_FOLDER
from vla_edge.runtime.errors import BundleError, InputError

from .machine import Here, ThisMachine, runs_here
from .plans.beside import Beside, parts_beside
from .plans.contents import Progress, hash_problem, size_of, unreadable
from .plans.lines import PlanLine, plan_line, plans_of

Certainty = Literal["chosen", "guessed", "likely", "certain", "without effect"]
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
    folder: Path,
    machine: ThisMachine,
    hashed: bool = False,
    progress: Progress = lambda size_bytes: None,
    beside: Beside | None = None,
) -> BundleReport:
    """Look at a bundle, sound or not.

    Args:
        folder: holds manifest.json.
        machine: where it is asked to run.
        hashed: compare the SHA-256 of every file and plan too.
        progress: is called with numbers of bytes hashed.
        beside: parts of the bundles beside it; by default of those in the same folder.

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
    beside = parts_beside(bundle.folder) if beside is None else beside
    plans = tuple(plan_line(path, bundle, beside, hashed, progress) for path in plans_of(bundle.folder))
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
    plans = folder / PLANS_FOLDER
    names = plans_of(folder)
    parts = plans.glob(f"*{PART_SUFFIX}") if names else ()
    return sum(entry.size_bytes for entry in files) + sum(size_of(path) or 0 for path in (*names, *parts))


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
        problem = hash_problem(path, entry.sha256, "the manifest", progress) if hashed else unreadable(path)
    except BundleError as error:
        problem = error.problem
    return FileLine(entry.path, entry.size_bytes, entry.sha256, hashed and not problem, problem)


def _unlisted(folder: Path, files: tuple[FileEntry, ...]) -> tuple[str, ...]:
    listed = {MANIFEST_NAME, PLANS_FOLDER, *(entry.path.split("/")[0] for entry in files)}
    try:
        names = sorted(path.name for path in islice(folder.iterdir(), _MOST_FILES))
    except OSError:
        return ()
    return tuple(name for name in names if name not in listed)
