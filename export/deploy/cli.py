"""`vla-bundle`: pack a bundle into a file, unpack it, and switch the one that a robot runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_edge.export.build.parts.arguments import bundle_folder, memory_options, parts_options
from vla_edge.export.screen.progress import BYTES, stage
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, verbose_option
from vla_edge.runtime.engines.registry import WITHOUT_PLANS
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES
from vla_edge.runtime.version import VERSION

_HELP = """Move bundles to a robot as one file, and switch the one that it runs.

\b
Examples:
  vla-bundle pack engines/policy-1-fp16 -o policy-1.vla
  vla-bundle pack engines/policy-2-fp16 -o update.vla --since policy-1.vla
  vla-bundle deploy update.vla engines/
  vla-bundle rollback engines/
  vla-bundle COMMAND -h
"""

_PATH = click.Path(path_type=Path)


@click.group(help=_HELP, context_settings=COMMAND_SETTINGS)
@click.version_option(VERSION)
def group() -> None:
    return None


@click.command("pack", short_help="Write a bundle into one file.", context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, metavar="FILE", help="The file to write.")
@click.option(
    "--since",
    type=_PATH,
    metavar="OTHER",
    help="Leave out what the target has of OTHER: a bundle, the file that one was packed into, or a copy of its "
    "manifest.json (which tells whole files only: little is left out).",
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
    opened = Bundle.open(bundle_folder(bundle), "size")
    size_bytes = sum(entry.size_bytes for entry in opened.manifest.files)
    known = None
    if since:
        with stage(f"reading {since}", _bytes_in(since), BYTES) as advance:
            known = known_by(since, advance)
    with stage(f"hashing {bundle}", 2 * size_bytes, BYTES) as advance:
        content = read_content(opened, known, advance)
    with stage(f"writing {output.name}", content.index.packed_bytes, BYTES) as advance:
        written = write_packed(content, output, force, advance)
    print_packed(content.index, output, written, as_json, known is not None and not known.blocks)


@click.command("unpack", short_help="Make a bundle out of such a file.", context_settings=COMMAND_SETTINGS)
@click.argument("file", type=_PATH)
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option(
    "--base",
    "bases",
    type=_PATH,
    multiple=True,
    help="A bundle that has what was left out; repeatable [the one beside DIR].",
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

    from .beforehand import beside
    from .view import print_unpacked

    with open_packed(file) as packed:
        opened = [Bundle.open(base, "size") for base in bases] or beside(packed, folder)
        with stage(f"unpacking {file.name}", packed.index.bundle_bytes, BYTES) as advance:
            origins = make(packed, folder, opened, advance)
        print_unpacked(packed.index, folder, origins, as_json)


@click.command(
    "deploy", short_help="Unpack, build, check, then switch to it.", context_settings=COMMAND_SETTINGS
)
@click.argument("file", type=_PATH)
@click.argument("root", type=_PATH)
@click.option(
    "--backend",
    type=click.Choice([*LIBRARIES, WITHOUT_PLANS]),
    default=DEFAULT_BACKEND,
    show_default=True,
    help="The engine that will run it.",
)
@click.option("--no-build", is_flag=True, help="Build and run nothing: only hashes are checked.")
@click.option(
    "--keep",
    type=click.IntRange(2),
    default=2,
    show_default=True,
    help="How many deployed bundles stay, current and previous among them.",
)
@click.option(
    "--device", type=click.IntRange(0), default=0, show_default=True, help="CUDA's index of the GPU."
)
@parts_options
@memory_options
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@verbose_option
def deploy(
    file: Path,
    root: Path,
    backend: str,
    no_build: bool,
    keep: int,
    device: int,
    as_json: bool,
    **building: Any,
) -> None:
    """Make the bundle in FILE the current one of ROOT, where a robot keeps its bundles.

    Unpacks it beside the others, taking from them what FILE leaves out; builds its plan, taking parts that
    they have; runs the golden samples on the engine; and only then turns the link ROOT/current, in one step.
    The one before is ROOT/previous. When anything fails, or the power goes, current is what it was: give the
    command again.

    The robot's program loads ROOT/current, and is restarted after a deploy. A build needs most of a small
    board's memory: stop the program first there.

    \b
    Examples:
      vla-bundle deploy policy-1.vla engines/
      vla-bundle deploy update.vla engines/ --keep 4
      vla-bundle deploy update.vla engines/ --memory-limit 12GiB
      vla-bundle deploy update.vla engines/ --backend onnxruntime
    """
    from vla_edge.export.build.build import RejectedPlanError
    from vla_edge.export.build.options import BuildOptions
    from vla_edge.export.build.view import print_rejected
    from vla_edge.export.packed.packed import open_packed

    from .deploy import DeployOptions
    from .deploy import deploy as make
    from .screen import ShownScreen
    from .view import print_deployed

    options = DeployOptions(backend, not no_build, keep, BuildOptions(device_index=device, **building))
    with open_packed(file) as packed:
        try:
            deployment = make(packed, root, options, ShownScreen(file.name))
        except RejectedPlanError as error:
            if not as_json:
                print_rejected(error.record)
            raise
    print_deployed(deployment, root, as_json)


@click.command("rollback", short_help="Switch back to the previous one.", context_settings=COMMAND_SETTINGS)
@click.argument("root", type=_PATH)
@click.option(
    "--to", metavar="NAME", help="A folder of ROOT, as vla-bundle list names it [the previous one]."
)
@click.option("--json", "as_json", is_flag=True, help="Print what is current as JSON.")
@verbose_option
def rollback(root: Path, to: str | None, as_json: bool) -> None:
    """Make the previous bundle of ROOT the current one, after its hashes were checked.

    The current one becomes the previous: the same command again goes forward.

    \b
    Examples:
      vla-bundle rollback engines/
      vla-bundle rollback engines/ --to policy-1-fp16-0123456789ab
    """
    from .deploy import roll_back
    from .view import print_rolled_back

    print_rolled_back(root, roll_back(root, to), as_json)


@click.command("list", short_help="What was deployed; what is current.", context_settings=COMMAND_SETTINGS)
@click.argument("root", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@verbose_option
def list_(root: Path, as_json: bool) -> int:
    """Show the bundles that were deployed in ROOT: which is current, how large, checked or not.

    The exit code is 1 where one of them is damaged. This looks at manifests and sizes; vla-inspect --sha256
    reads all.

    \b
    Examples:
      vla-bundle list engines/
      vla-bundle list engines/ --json | jq -r '.bundles[0].folder'
    """
    from .listing import list_root
    from .view import print_list

    listed = list_root(root)
    print_list(root, listed, as_json)
    return int(any(one.problem for one in listed))


def _bytes_in(path: Path) -> int:
    """About what is to be read, for a bar."""
    from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME

    weights = path / WEIGHTS_NAME
    return weights.stat().st_size if weights.is_file() else 0


for _command in (pack, unpack, deploy, rollback, list_):
    group.add_command(_command)


def main() -> None:
    run_command(group)


if __name__ == "__main__":
    main()
