"""What lies in a robot's folder: looked at without a lock, since a deploy may be at work for minutes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.finding import CURRENT, PREVIOUS
from vla_edge.runtime.errors import BundleError, InputError

from .record import DeployRecord, read_record
from .root import deployed_in, folder_of


@dataclass(frozen=True)
class Listed:
    """A bundle.

    Attributes:
        folder: where it lies.
        links: those of "current" and "previous" that lead to it.
        bundle: its manifest; None where that cannot be read.
        size_bytes: of all its files, plans included. Hard links count in every bundle.
        record: what was proven of it; None where nothing was.
        problem: what is wrong by manifest and sizes; empty where nothing is.
    """

    folder: Path
    links: tuple[str, ...]
    bundle: Bundle | None
    size_bytes: int
    record: DeployRecord | None
    problem: str


def list_root(root: Path) -> list[Listed]:
    """Current, previous, then the others, the latest first.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder.", "Give the folder into which vla-bundle deploy put bundles."
        )
    links: dict[Path, tuple[str, ...]] = {}
    for link in (CURRENT, PREVIOUS):
        if folder := folder_of(root, link):
            links[folder] = (*links.get(folder, ()), link)
    return [_listed(folder, links.get(folder, ())) for folder in dict.fromkeys([*links, *deployed_in(root)])]


def _listed(folder: Path, links: tuple[str, ...]) -> Listed:
    bundle, record, problem = None, None, ""
    try:
        bundle = Bundle.unchecked(folder)
        record = read_record(folder, bundle.manifest_sha256)
        Bundle.open(folder, "size")
    except BundleError as error:
        problem = error.problem
    size_bytes = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            size_bytes += path.lstat().st_size if path.is_file() else 0
    return Listed(folder, links, bundle, size_bytes, record, problem)
