"""`vla-bundle`: pack a bundle into a file, unpack it, and switch the one that a robot runs."""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.export.screen.progress import BYTES, stage
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, verbose_option
from vla_edge.runtime.version import VERSION

_HELP = """Move bundles to a robot as one file, and switch the one that it runs.

\b
Examples:
  vla-bundle pack engines/policy-1-fp16 -o policy-1.vla
  vla-bundle pack engines/policy-2-fp16 -o update.vla --since policy-1.vla
  vla-bundle COMMAND -h
"""

_PATH = click.Path(path_type=Path)


@click.group(help=_HELP, context_settings=COMMAND_SETTINGS)
@click.version_option(VERSION)
def group() -> None:
    return None


@click.command("pack", context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, metavar="FILE", help="The file to write.")
@click.option(
    "--since",
    type=_PATH,
    metavar="OTHER",
    help="Leave out what the target has of OTHER: a bundle, the file that one was packed into, or its "
    "manifest.json alone (then only whole files are left out).",
)
@click.option("--force", is_flag=True, help="Replace FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@verbose_option
def pack(bundle: Path, output: Path, since: Path | None, force: bool, as_json: bool) -> None:
    """Pack BUNDLE, without its plans, into one file with checksums.

    With --since the file holds only blocks that OTHER has not. Weights are compared tensor by tensor: a new
    head on the same backbones is a small file. Where OTHER is on the robot alone, pack there an empty file
    that lists its blocks: vla-bundle pack OTHER -o have.vla --since OTHER

    \b
    Examples:
      vla-bundle pack engines/policy-1-fp16 -o policy-1.vla
      vla-bundle pack engines/new-fp16 -o update.vla --since engines/old-fp16
      vla-bundle pack engines/policy-2-fp16 -o update.vla --since policy-1.vla
    """
    from vla_edge.export.packed.pack import known_by, read_content, require_output, write_packed
    from vla_edge.runtime.bundle.bundle import Bundle

    from .view import print_packed

    require_output(output, force)
    opened = Bundle.open(bundle, "size")
    size_bytes = sum(entry.size_bytes for entry in opened.manifest.files)
    known = None
    if since:
        with stage(f"reading {since}", _bytes_in(since), BYTES) as advance:
            known = known_by(since, advance)
    with stage(f"hashing {bundle}", 2 * size_bytes, BYTES) as advance:
        content = read_content(opened, known, advance)
    with stage(f"writing {output.name}", content.index.packed_bytes, BYTES) as advance:
        written = write_packed(content, output, force, advance)
    print_packed(content.index, output, written, as_json)


@click.command("unpack", context_settings=COMMAND_SETTINGS)
@click.argument("file", type=_PATH)
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option(
    "--base", "bases", type=_PATH, multiple=True, help="A bundle that has what was left out; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@verbose_option
def unpack(file: Path, folder: Path, bases: tuple[Path, ...], as_json: bool) -> None:
    """Make the bundle DIR out of FILE.

    DIR appears whole, every block and file checked, or not at all. After a crash or a loss of power the same
    command goes on where it was. Files that a base has too become hard links to them.

    \b
    Examples:
      vla-bundle unpack policy-1.vla engines/policy-1-fp16
      vla-bundle unpack update.vla engines/new-fp16 --base engines/old-fp16
    """
    from vla_edge.export.packed.packed import open_packed
    from vla_edge.export.packed.unpack import unpack as make
    from vla_edge.runtime.bundle.bundle import Bundle

    from .view import print_unpacked

    with open_packed(file) as packed:
        opened = [Bundle.open(base, "size") for base in bases]
        with stage(f"unpacking {file.name}", packed.index.bundle_bytes, BYTES) as advance:
            origins = make(packed, folder, opened, advance)
        print_unpacked(packed.index, folder, origins, as_json)


def _bytes_in(path: Path) -> int:
    """About what is to be read, for a bar."""
    from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME

    weights = path / WEIGHTS_NAME
    return weights.stat().st_size if weights.is_file() else 0


for _command in (pack, unpack):
    group.add_command(_command)


def main() -> None:
    run_command(group)


if __name__ == "__main__":
    main()
