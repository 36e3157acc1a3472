"""Which file is the checkpoint that a bundle was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vla_edge.runtime.bundle.manifest import Source
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.digest import sha256_of

SAMPLES_FOLDER = "samples"


@dataclass(frozen=True)
class Search:
    """The result of looking for a checkpoint: a path and what qualifies the find, or None and why."""

    path: Path | None
    note: str = ""


class CheckpointFinder:
    """Finds checkpoints by name and tells them by size and SHA-256; each file is hashed once.

    Args:
        given: paths named by the user, which may have been renamed.
    """

    def __init__(self, given: Sequence[Path]) -> None:
        self._given = tuple(given)
        self._used: set[Path] = set()
        self._digest = cache(sha256_of)
        for path in self._given:
            if not path.is_file():
                raise InputError(f"no checkpoint {path}.", "Check the path given with --checkpoint.")

    def find(self, bundle: Path, source: Source) -> Search:
        """Look among the given paths, then around the bundle and in the current folder: see `_folders`."""
        others: list[Path] = []
        for path in (*self._given, *_candidates(bundle, source.file)):
            if self._is_source(path, source):
                self._used.add(path)
                note = "" if source.sha256 else f"{path.name} was recognised by its size only"
                return Search(path, note)
            if path not in self._given:
                others.append(path)
        found = f" ({others[0]} has other contents)" if others else ""
        return Search(None, f"checkpoint not found: pass --checkpoint {source.file}{found}")

    def refuse_unused(self) -> None:
        """Refuse paths given by the user that belong to no bundle.

        Raises:
            InputError: names the first of them.
        """
        for path in self._given:
            if path not in self._used:
                raise InputError(
                    f"no bundle was exported from {path}: size or SHA-256 differ from every manifest's.",
                    "Pass the checkpoint that was exported, or export this one.",
                )

    def _is_source(self, path: Path, source: Source) -> bool:
        if path.stat().st_size != source.size_bytes:
            return False
        return source.sha256 is None or self._digest(path) == source.sha256


def _candidates(bundle: Path, name: str) -> Iterator[Path]:
    """Files of a name that a manifest tells, which may be none: nothing is looked for outside the folders."""
    if name != Path(name).name:
        return
    for folder in _folders(bundle):
        with suppress(OSError, ValueError):  # a name that no file can have, a folder that may not be read
            if (folder / name).is_file():
                yield folder / name


def _folders(bundle: Path) -> tuple[Path, ...]:
    """Where a checkpoint may lie, each once and the nearest first.

    That is beside the bundle, beside the folder of all bundles (`policy.pth` and `engines/`, as vla-export leaves
    them) and one folder up, where the command runs, and in `samples/` of each of these.
    """
    engines, here = bundle.absolute().parent, Path.cwd()
    near = (engines, engines.parent, engines.parent.parent, here)
    return tuple(dict.fromkeys((*near, *(folder / SAMPLES_FOLDER for folder in near))))
