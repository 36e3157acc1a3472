"""What `vla-bundle` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.padding import Padding

from vla_edge.export.build.view import verdict
from vla_edge.export.packed.index import Index
from vla_edge.export.packed.unpack import Origins
from vla_edge.export.screen.screen import escape, one_line, prose, result_console, say, size
from vla_edge.runtime.bundle.finding import CURRENT
from vla_edge.runtime.command.json_text import json_text

from .deploy import Deployment
from .listing import Listed

NOT_CHECKED = "NOT checked: no golden sample was run here"
_LITTLE_SAVED = 0.5
_BY_FILES = (
    "Little was left out: a manifest alone tells whole files, not the tensors in them. Give --since that bundle, or "
    "the file that it was packed into."
)
RESTART = "Restart the robot's program: one that runs keeps what it has loaded."


def print_packed(index: Index, output: Path, size_bytes: int, as_json: bool, by_files: bool = False) -> None:
    """A file that was packed: its size, and what it is good for.

    Args:
        index: of the file.
        output: its path.
        size_bytes: its size.
        as_json: for a program.
        by_files: of the other bundle only a manifest was there.
    """
    if as_json:
        _print_json(
            {
                "file": str(output),
                "size_bytes": size_bytes,
                "name": index.name,
                "manifest_sha256": index.manifest_sha256,
                "since": index.since.manifest_sha256 if index.since else None,
                "bundle_bytes": index.bundle_bytes,
                "packed_bytes": index.packed_bytes,
            }
        )
        return
    console = result_console()
    say(console, f"{escape(str(output))}  {size(size_bytes)}  {_identity(index.name, index.manifest_sha256)}")
    if index.since:
        since = _identity(index.since.name, index.since.manifest_sha256)
        share = f"{size(index.packed_bytes)} of the bundle's {size(index.bundle_bytes)}"
        prose(console, f"an update, with {share}, for a target that has {since}")
        if by_files and index.packed_bytes > _LITTLE_SAVED * index.bundle_bytes:
            prose(console, _BY_FILES)


def print_unpacked(index: Index, folder: Path, origins: Origins, as_json: bool) -> None:
    """A bundle that was unpacked."""
    if as_json:
        _print_json(
            {
                "folder": str(folder),
                "name": index.name,
                "manifest_sha256": index.manifest_sha256,
                "bytes": asdict(origins),
            }
        )
        return
    say(result_console(), f"{escape(str(folder))}  {size(index.bundle_bytes)}, {told(origins)}")
    say(result_console(), f"{_identity(index.name, index.manifest_sha256)}, every block and file checked")


def print_deployed(deployment: Deployment, root: Path, as_json: bool) -> None:
    """What runs next, whether it was checked, and what it came from."""
    verification, origins = deployment.verification, deployment.origins
    if as_json:
        _print_json(
            {
                "folder": str(deployment.folder),
                "previous": str(deployment.previous) if deployment.previous else None,
                "bytes": asdict(origins) if origins else None,
                "verification": verification,
                "removed": [str(path) for path in deployment.removed],
            }
        )
        return
    console = result_console()
    checked = verdict(verification) if verification else NOT_CHECKED
    if verification and not deployment.proven_now:
        checked = f"NOT checked now; {one_line(verification.checked_utc or 'earlier')}: {checked}"
    prose(console, f"[bold]{checked}[/]")
    _say_current(root, deployment.folder)
    say(console, f"  {told(origins) if origins else 'was there already'}")
    if deployment.previous:
        say(console, f"  previous: {escape(deployment.previous.name)}")
    for path in deployment.removed:
        say(console, f"  removed: {escape(path.name)}")
    prose(console, RESTART)


def print_rolled_back(root: Path, folder: Path, as_json: bool) -> None:
    """What runs next."""
    if as_json:
        _print_json({"folder": str(folder)})
        return
    _say_current(root, folder)
    prose(result_console(), RESTART)


def print_list(root: Path, listed: Sequence[Listed], as_json: bool) -> None:
    """Two lines for each bundle: its name, size and links; what was proven of it, or what is wrong."""
    if as_json:
        _print_json({"root": str(root), "bundles": [_as_json(one) for one in listed]})
        return
    console = result_console()
    if not listed:
        say(console, f"nothing was deployed in {escape(str(root))}")
        return
    for one in listed:
        # a name is to be copied: whole, on a line that nothing widens
        links = f"  {', '.join(one.links)}" if one.links else ""
        say(console, f"[bold]{one_line(one.folder.name)}[/]  {size(one.size_bytes)}{links}")
        checked = verdict(one.record.verification) if one.record and one.record.verification else NOT_CHECKED
        said = f"[red]damaged:[/] {escape(one.problem)}" if one.problem else checked
        console.print(
            Padding(said, (0, 0, 0, 2)) if console.is_terminal else f"  {said}",
            soft_wrap=not console.is_terminal,
        )


def _as_json(one: Listed) -> dict[str, Any]:
    return {
        "folder": str(one.folder),
        "links": one.links,
        "name": one.bundle.manifest.name if one.bundle else None,
        "manifest_sha256": one.bundle.manifest_sha256 if one.bundle else None,
        "size_bytes": one.size_bytes,
        "deployed": one.record,
        "problem": one.problem,
    }


def _say_current(root: Path, folder: Path) -> None:
    say(result_console(), f"{escape(str(root / CURRENT))} -> {escape(folder.name)}")


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json_text(value))


def told(origins: Origins) -> str:
    """Such as "42.0 MiB from the file, 3.0 GiB shared with bundles here (hard links)"."""
    parts = (
        (origins.file, "from the file"),
        (origins.base, "copied from bundles here"),
        (origins.linked, "shared with bundles here (hard links)"),
        (origins.kept, "from a run that was killed"),
    )
    return ", ".join(f"{size(count)} {word}" for count, word in parts if count)


def _identity(name: str, manifest_sha256: str) -> str:
    return f"{one_line(name)} {manifest_sha256[:12]}"
