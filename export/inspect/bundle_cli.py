"""`vla-inspect` for bundles: one, a folder of them, or two compared. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from vla_edge.export.screen.progress import BYTES, stage
from vla_edge.runtime.bundle.bundle import find_bundles
from vla_edge.runtime.bundle.finding import deployed_links
from vla_edge.runtime.bundle.manifest import MANIFEST_NAME
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import BundleError, InputError

from .bundle import BundleReport, bytes_to_hash, inspect_bundle
from .machine import ThisMachine, this_machine
from .plans.beside import parts_in

DAMAGED = 1
UNREADABLE = 2


def is_bundle(path: Path) -> bool:
    """Whether a path means bundles rather than a checkpoint: a folder, or a manifest."""
    return path.is_dir() or path.name == MANIFEST_NAME


def show(paths: Sequence[Path], as_json: bool, sha256: bool) -> int:
    """Inspect one path, or compare two.

    Returns:
        0, or 1 where something is damaged, or 2 where a manifest cannot be read.

    Raises:
        BundleError: no bundle there.
        InputError: one is a bundle and the other is not.
    """
    if not all(map(is_bundle, paths)):
        other = next(path for path in paths if not is_bundle(path))
        raise InputError(
            f"{other} is not a bundle, the other is.", "Compare two bundles, or two checkpoints."
        )
    if len(paths) == 2:
        return _compare([_folder(path) for path in paths], as_json, sha256)
    path = _folder(paths[0])
    found = find_bundles(path)
    if len(found) > 1 or (found and found[0] != path):
        return _list(path, found, as_json, sha256)
    (report,) = _reports([path], this_machine(), sha256)
    if as_json:
        from .bundle_json import bundle_json

        click.echo(json_text(bundle_json(report)))
    else:
        from .bundle_view import print_bundle

        print_bundle(report)
    return _code([report])


def _folder(path: Path) -> Path:
    return path.parent if path.name == MANIFEST_NAME and not path.is_dir() else path


def _reports(folders: Sequence[Path], machine: ThisMachine, sha256: bool) -> list[BundleReport]:
    beside = parts_in(folders) if len(folders) > 1 else None  # of one, what lies around it
    if not sha256:
        return [inspect_bundle(folder, machine, beside=beside) for folder in folders]
    with stage("hashing", sum(map(bytes_to_hash, folders)), BYTES) as advance:
        return [inspect_bundle(folder, machine, True, advance, beside) for folder in folders]


def _list(folder: Path, found: Sequence[Path], as_json: bool, sha256: bool) -> int:
    machine, links = this_machine(), deployed_links(folder)
    running = list(links.values())  # those come first
    found = sorted(found, key=lambda path: running.index(path.name) if path.name in running else len(running))
    reports = _reports(found, machine, sha256)
    if as_json:
        from .bundle_json import list_json

        click.echo(json_text(list_json(folder, reports, machine, links)))
    else:
        from .list_view import print_list

        print_list(folder, reports, links)
    return _code(reports)


def _compare(folders: Sequence[Path], as_json: bool, sha256: bool) -> int:
    from .bundle_diff import differences

    reports = _reports(folders, this_machine(), sha256)
    first, second = (report.bundle for report in reports)
    if first is None or second is None:
        problem = next(report.problems[0] for report in reports if report.bundle is None)
        raise BundleError(problem, "Give two bundles whose manifests are valid.")
    found = differences(first.manifest, second.manifest)
    if as_json:
        from .bundle_json import comparison_json

        click.echo(json_text(comparison_json(reports, found)))
    else:
        from .bundle_view import print_differences

        print_differences(reports, found)
    return _code(reports)


def _code(reports: Sequence[BundleReport]) -> int:
    if not any(report.readable for report in reports):
        return UNREADABLE
    return DAMAGED if any(report.all_problems for report in reports) else 0
