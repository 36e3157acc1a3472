"""`vla-inspect`: what a checkpoint or a bundle holds, or how two differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vla_edge.export.screen.progress import BYTES, stage
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.export.checkpoint.checkpoint import StoredPolicy

DEFAULT_DEPTH = 4

_HELP = """Show what a checkpoint or a bundle holds, or how two of them differ.

PATH is a checkpoint, a bundle (its folder or manifest.json), or a folder of bundles such as engines/.

Of a checkpoint: container, layout and why, modules, epoch, validation error. Nothing in the file is
executed, and no weight is read: a 7 GB file takes seconds. Of two: first names, shapes and dtypes, then
the weights module by module. This needs the [export] extra.

Of a bundle: errors and gates, whether this machine runs it and with which engine, the checkpoint, which
settings were chosen, guessed or are certain, instructions, inputs, precision, files, and plans with
their parts. Of a folder of bundles: a row each, on a robot the current one first. Of two: what differs.
This needs no torch.

Exit codes: 0 done; 1 shown, but the layout was not recognised, or a bundle is damaged; 2 the file or
manifest cannot be read.

\b
Examples:
  vla-inspect best_simple_lstm_model.pth
  vla-inspect best_simple_clip_lstm_model.pth --depth 6 --sha256
  vla-inspect epoch_4.pth epoch_10.pth
  vla-inspect engines/
  vla-inspect engines/best_simple_lstm_model-fp16 --sha256
  vla-inspect engines/epoch_4-fp16 engines/epoch_10-fp16
  vla-inspect engines/ --json | jq '.bundles[].name'
"""


@click.command(help=_HELP, context_settings=COMMAND_SETTINGS)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path), required=False)
@click.option("--weights", metavar="KEY", help="State dict to show where a checkpoint has several.")
@click.option(
    "--family", metavar="NAME", help="Family of policies to ask, where packages add some; by default all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.option(
    "--sha256", is_flag=True, help="Hash the files too, and verify checksums; this reads all of them."
)
@click.option(
    "--depth",
    type=click.IntRange(1),
    default=DEFAULT_DEPTH,
    show_default=True,
    help="Levels of a checkpoint's module tree.",
)
@verbose_option
@click.version_option(VERSION)
def command(
    path: Path,
    second: Path | None,
    weights: str | None,
    family: str | None,
    as_json: bool,
    sha256: bool,
    depth: int,
) -> int:
    from .bundle_cli import is_bundle, show

    given = [path] if second is None else [path, second]
    if any(map(is_bundle, given)):
        return show(given, as_json, sha256)
    require("export", "torch")
    from vla_edge.export.checkpoint.checkpoint import read_stored

    stored = [read_stored(each, weights, family) for each in given]
    hashes = {each.path: _hash(each) for each in stored if sha256}
    if second is None:
        return _show_one(stored[0], hashes.get(path), as_json, depth)
    _show_two(stored[0], stored[1], hashes, as_json, depth)
    return 0


def _show_one(stored: StoredPolicy, sha256: str | None, as_json: bool, depth: int) -> int:
    from .checkpoint import as_json as to_json
    from .checkpoint import inspect_policy
    from .checkpoint_view import print_inspection

    inspection = inspect_policy(stored)
    if as_json:
        _print_json(to_json(inspection, sha256, depth))
    else:
        print_inspection(inspection, sha256, depth)
    return 0 if stored.recognised else 1


def _show_two(
    first: StoredPolicy, second: StoredPolicy, hashes: dict[Path, str], as_json: bool, depth: int
) -> None:
    from dataclasses import asdict

    from .checkpoint import compare_structure, compare_weights
    from .checkpoint_view import print_comparison

    structure = compare_structure(first.tensors, second.tensors)
    total = sum(_bytes(stored, name) for stored in (first, second) for name in structure.shared)
    with stage("comparing weights", total, BYTES) as advance:
        weights = compare_weights(first.tensors, second.tensors, structure.shared, depth, advance)
    for stored in (first, second):
        stored.file.check_unchanged()
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


def _hash(stored: StoredPolicy) -> str:
    with stage(f"hashing {stored.path.name}", stored.size_bytes, BYTES) as advance:
        return stored.sha256(advance)


def _print_json(value: Any) -> None:
    click.echo(json_text(value))


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
