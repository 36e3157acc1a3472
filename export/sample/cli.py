"""`vla-sample`: write a generated checkpoint to try the toolchain with."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from vla_edge.export.families import built_in
from vla_edge.export.screen.progress import BYTES, note, stage
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, stderr_console, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.wrapping import for_terminal
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.export.family_samples import Sample, Samples

MOST_EPISODES = 10_000
MOST_FRAMES = 10_000
FRAME_SIZES = {"720x1280": (720, 1280), "360x640": (360, 640), "90x160": (90, 160)}

# Loaded by the command's own module, which nothing else imports: what may be asked for is the family's to say.
_FAMILY = built_in()
_SAMPLES = cast("Samples", _FAMILY.samples)


@click.command(help=_SAMPLES.help, context_settings=COMMAND_SETTINGS)
@click.option("--layout", type=click.Choice(_SAMPLES.layouts), help="Which policy.")
@click.option(
    _SAMPLES.form_option,
    "form",
    type=click.Choice(_SAMPLES.forms),
    help=_SAMPLES.form_help,
)
@click.option("--size", type=click.Choice(_SAMPLES.sizes), default="tiny", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same file.")
@click.option(
    "--trained-seed",
    type=click.IntRange(0),
    help="Another seed for what is trained on frozen backbones: a new head on the same backbones.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="File to write, or a folder: one that is there, or a name without suffix or with / at its end; the "
    "training script's file name is used there.",
)
@click.option(
    "--tokenizer/--no-tokenizer", default=True, show_default=True, help="Write tokenizer/ beside it."
)
@click.option(
    "--episodes",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write recorded episodes instead, as HDF5 files into DIR: a drawn scene that moves as the actions say.",
)
@click.option(
    "--count", type=click.IntRange(1, MOST_EPISODES), default=8, show_default=True, help="Of the episodes."
)
@click.option(
    "--frames", type=click.IntRange(1, MOST_FRAMES), default=18, show_default=True, help="Of each of them."
)
@click.option(
    "--frame-size",
    type=click.Choice(list(FRAME_SIZES)),
    default="720x1280",
    show_default=True,
    help="Of each frame, height and width.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@verbose_option
@click.version_option(VERSION)
def command(
    layout: str | None,
    form: str | None,
    size: str,
    seed: int,
    trained_seed: int | None,
    output: str | None,
    tokenizer: bool,
    folder: Path | None,
    count: int,
    frames: int,
    frame_size: str,
    force: bool,
    as_json: bool,
) -> None:
    if folder is not None:
        if layout is not None or output is not None:
            raise click.UsageError("--episodes writes no checkpoint: leave out --layout and --output.")
        _write_episodes(folder, count, frames, FRAME_SIZES[frame_size], seed, force, as_json)
        return
    if layout is None or output is None:
        raise click.UsageError(f"Missing option '{'--layout' if layout is None else '-o'}'.")
    require("export", "torch", *(["tokenizers"] if tokenizer else []))
    from vla_edge.runtime.files.writable import refuse_unwritable

    sample = _SAMPLES.sample(layout, form, size, seed)
    if trained_seed is not None:
        description = f"{sample.description} trained_seed={trained_seed}"
        sample = replace(sample, description=description, trained_seed=trained_seed)
    path = Path(output, sample.file_name) if _is_folder(output) else Path(output)
    tokenizer_folder = path.parent / "tokenizer"
    refuse_unwritable(tokenizer_folder if tokenizer else path.parent)
    if not force:
        _refuse_existing(path, tokenizer_folder if tokenizer else None)
    _make_folder(path.parent)
    written = [path]
    _write_with_progress(path, sample, force)
    if tokenizer:
        written.append(_SAMPLES.write_tokenizer(tokenizer_folder, force))
    _report(written, sample.description, as_json)


def _write_episodes(
    folder: Path, count: int, frames: int, size: tuple[int, int], seed: int, force: bool, as_json: bool
) -> None:
    require("episodes", "h5py")
    from vla_edge.runtime.files.writable import refuse_unwritable

    from .episodes import EpisodeSamples, refuse_existing, write_episodes

    refuse_unwritable(folder.parent, "give another folder")
    refuse_existing(folder, force)
    _make_folder(folder.parent)
    samples = EpisodeSamples(count, frames, *size, seed)
    with stage(f"writing {count} episodes", count * frames, "frames") as advance:
        written = write_episodes(folder, samples, advance, force)
    if as_json:
        sizes = {str(path): path.stat().st_size for path in written}
        click.echo(json_text({"sample": samples.description, "files": sizes}))
        return
    size_bytes = sum(path.stat().st_size for path in written)
    click.echo(f"{folder}  {count} episodes of {frames} frames  {size_bytes / 2**20:.1f} MiB")
    click.echo(
        for_terminal(f"Drawn scenes ({samples.description}): for trying and testing only.", sys.stdout)
    )


def _is_folder(output: str) -> bool:
    # os.path: a folder that must not be searched is for refuse_unwritable to name
    name = os.path.basename(output)  # empty after a last "/"
    return os.path.isdir(output) or name in ("", ".", "..") or Path(name).suffix == ""


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # as in /proc, where permissions do not tell
        raise InputError(
            f"the folder {folder} cannot be made: {error.strerror}.", "Write elsewhere with -o."
        ) from error


def _refuse_existing(path: Path, tokenizer_folder: Path | None) -> None:
    from .sample import exists

    if os.path.lexists(path):
        raise exists(path)
    if tokenizer_folder:
        _SAMPLES.refuse_another_tokenizer(tokenizer_folder)


def _write_with_progress(path: Path, sample: Sample, force: bool) -> None:
    from vla_edge.export.screen.screen import size

    from .sample import sample_size_bytes, write_sample

    size_bytes = sample_size_bytes(sample)
    note(stderr_console(), f"{path} will take {size(size_bytes)}; {_free(path.parent)} free")
    with stage(f"writing {path.name}", size_bytes, BYTES) as advance:
        write_sample(path, sample, advance, force)


def _free(folder: Path) -> str:
    from vla_edge.export.screen.screen import size

    return size(shutil.disk_usage(folder).free)


def _report(written: list[Path], description: str, as_json: bool) -> None:
    sizes = {str(path): path.stat().st_size for path in written}
    if as_json:
        click.echo(json_text({"sample": description, "files": sizes}))
        return
    for path, size_bytes in sizes.items():
        click.echo(f"{path}  {size_bytes / 2**20:.1f} MiB")
    click.echo(for_terminal(f"Generated weights ({description}): for trying and testing only.", sys.stdout))


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
