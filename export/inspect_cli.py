"""`vla-inspect`: what a checkpoint holds, or how two differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.console import COMMAND_SETTINGS, byte_progress, run_command, verbose_option
from ..runtime.json_text import json_text
from ..runtime.version import VERSION

if TYPE_CHECKING:
    from .checkpoint import StoredPolicy

DEFAULT_DEPTH = 4

_HELP = """Show what CHECKPOINT holds: container, layout and why, modules, epoch, validation error.

Nothing in the file is executed, and no weight is read: a 7 GB file takes seconds. With a second
checkpoint, show what differs: first names, shapes and dtypes, then the weights module by module.

Exit codes: 0 done, 1 the layout was not recognised (the tree is shown all the same), 2 the file
cannot be read.

\b
Examples:
  vla-inspect best_simple_lstm_model.pth
  vla-inspect best_simple_clip_lstm_model.pth --depth 6 --sha256
  vla-inspect epoch_4.pth epoch_10.pth
  vla-inspect best_simple_lstm_model.pth --json | jq .layout
"""


@click.command(help=_HELP, context_settings=COMMAND_SETTINGS)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.option("--sha256", is_flag=True, help="Hash the file too; this reads all of it.")
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=DEFAULT_DEPTH,
    show_default=True,
    help="Levels of the module tree.",
)
@verbose_option
@click.version_option(VERSION)
def command(checkpoint: Path, second: Path | None, as_json: bool, sha256: bool, depth: int) -> int:
    from .checkpoint import read_stored

    first = read_stored(checkpoint)
    hashes = {path: _hash(path) for path in (checkpoint, second) if path and sha256}
    if second is None:
        return _show_one(first, hashes.get(checkpoint), as_json, depth)
    _show_two(first, read_stored(second), hashes, as_json, depth)
    return 0


def _show_one(stored: StoredPolicy, sha256: str | None, as_json: bool, depth: int) -> int:
    from .inspect import as_json as to_json
    from .inspect import inspect_policy
    from .inspect_view import print_inspection

    inspection = inspect_policy(stored)
    if as_json:
        _print_json(to_json(inspection, sha256, depth))
    else:
        print_inspection(inspection, sha256, depth)
    return 0 if inspection.architecture else 1


def _show_two(
    first: StoredPolicy, second: StoredPolicy, hashes: dict[Path, str], as_json: bool, depth: int
) -> None:
    from dataclasses import asdict

    from .inspect import compare_structure, compare_weights
    from .inspect_view import print_comparison

    structure = compare_structure(first.tensors, second.tensors)
    total = sum(_bytes(stored, name) for stored in (first, second) for name in structure.shared)
    with byte_progress("comparing weights", total) as advance:
        weights = compare_weights(first.tensors, second.tensors, structure.shared, depth, advance)
    if as_json:
        result: dict[str, Any] = {
            "files": [str(first.path), str(second.path)],
            "sha256": [hashes.get(first.path), hashes.get(second.path)],
            "structure": asdict(structure),
            "weights": [asdict(line) for line in weights],
        }
        _print_json(result)
    else:
        print_comparison(first, second, structure, weights, hashes)


def _bytes(stored: StoredPolicy, name: str) -> int:
    tensor = stored.tensors[name]
    return tensor.numel() * tensor.element_size()


def _hash(path: Path) -> str:
    from vla_edge.runtime.digest import sha256_of

    with byte_progress(f"hashing {path.name}", path.stat().st_size) as advance:
        return sha256_of(path, advance)


def _print_json(value: Any) -> None:
    click.echo(json_text(value))


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
