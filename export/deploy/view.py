"""What `vla-bundle` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vla_edge.export.build.view import verdict
from vla_edge.export.packed.index import Index
from vla_edge.export.packed.unpack import Origins
from vla_edge.export.screen.screen import escape, one_line, plain_table, prose, result_console, say, size
from vla_edge.runtime.bundle.finding import CURRENT
from vla_edge.runtime.command.json_text import json_text

from .deploy import Deployment
from .listing import Listed

NOT_CHECKED = "NOT checked: no golden sample was run here"
RESTART = "Restart the robot's program: one that runs keeps what it has loaded."


def print_packed(index: Index, output: Path, size_bytes: int, as_json: bool) -> None:
    """A file that was packed: its size, and what it is good for."""
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
        prose(console, f"of {size(index.bundle_bytes)}; for a target that has {since}")


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
    prose(console, f"[bold]{verdict(verification) if verification else NOT_CHECKED}[/]")
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
    """A line for each bundle."""
    if as_json:
        _print_json({"root": str(root), "bundles": [_as_json(one) for one in listed]})
        return
    console = result_console()
    if not listed:
        say(console, f"nothing was deployed in {escape(str(root))}")
        return
    table = plain_table(("", "bundle", "size", "golden samples"), right=("size",))
    for one in listed:
        checked = verdict(one.record.verification) if one.record and one.record.verification else NOT_CHECKED
        said = "[red]DAMAGED, see below[/]" if one.problem else checked
        table.add_row(", ".join(one.links), one_line(one.folder.name), size(one.size_bytes), said)
    console.print(table)
    for one in listed:
        if one.problem:
            say(console, f"damaged: {escape(one.problem)}")


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
    """Such as "42.0 MiB from the file, 3.0 GiB from bundles here"."""
    parts = (
        (origins.file, "from the file"),
        (origins.base, "from bundles here"),
        (origins.linked, "linked to bundles here"),
        (origins.kept, "from a run that was killed"),
    )
    return ", ".join(f"{size(count)} {word}" for count, word in parts if count)


def _identity(name: str, manifest_sha256: str) -> str:
    return f"{one_line(name)} {manifest_sha256[:12]}"
