"""What `vla-bundle` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from vla_edge.export.packed.index import Index
from vla_edge.export.packed.unpack import Origins
from vla_edge.export.screen.screen import escape, one_line, prose, result_console, say, size
from vla_edge.runtime.command.json_text import json_text


def print_packed(index: Index, output: Path, size_bytes: int, as_json: bool) -> None:
    """A file that was packed: its size, and what it is good for."""
    if as_json:
        click.echo(
            json_text(
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
        click.echo(
            json_text(
                {
                    "folder": str(folder),
                    "name": index.name,
                    "manifest_sha256": index.manifest_sha256,
                    "bytes": asdict(origins),
                }
            )
        )
        return
    say(result_console(), f"{escape(str(folder))}  {size(index.bundle_bytes)}, {told(origins)}")
    say(result_console(), f"{_identity(index.name, index.manifest_sha256)}, every block and file checked")


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
