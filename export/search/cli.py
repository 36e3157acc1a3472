"""`vla-settings`: the command."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import click

from vla_edge.export.screen.reporter import RichReporter
from vla_edge.runtime.command.console import COMMAND_SETTINGS, print_error, run_command, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.episodes.options import RecordingArguments, recording_options
from vla_edge.runtime.version import VERSION


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("checkpoint", metavar="CKPT", type=click.Path(path_type=Path))
@click.argument("episodes", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--try",
    "tried",
    multiple=True,
    metavar="NAME=V,V",
    help="Values of a setting to try, in place of the usual ones; one value fixes it (repeatable).",
)
@click.option(
    "--first-frames-only",
    "first_only",
    is_flag=True,
    help="Try only what looks at an episode's first frame: a fraction of the time.",
)
@click.option("--limit", type=click.IntRange(1), help="Take the first N episodes, to see how it goes.")
@click.option("--forecast", is_flag=True, help="Run one episode, tell how long all would take, and leave.")
@click.option("--val-mae", type=FiniteFloat(0), help="The error to find; the checkpoint's by default.")
@click.option("--batch-size", type=click.IntRange(1), help="Of the validation; the checkpoint's, else 2.")
@click.option(
    "--validated-on",
    "validated",
    type=click.Choice(["all", "fifth"]),
    help="What val_mae is of: all episodes, or a random fifth. Default: as the training script of its layout.",
)
@click.option(
    "--tolerance", type=FiniteFloat(0), default=1e-4, show_default=True, help="Farther off is no fit."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--tf32/--no-tf32",
    default=True,
    show_default=True,
    help="On a GPU, convolutions and LSTMs in TF32, as torch has it by itself and so training had.",
)
@click.option("--tokenizer", help="As of vla-export.")
@click.option("--weights", metavar="KEY", help="As of vla-export.")
@click.option("--family", metavar="NAME", help="As of vla-export.")
@recording_options()
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of what the backbones gave.  [default: vla-edge/settings in ~/.cache]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Settings file.  [default: CKPT-settings.yaml here]",
)
@click.option(
    "--take",
    type=click.IntRange(1),
    metavar="N",
    help="Where several fit: write the Nth of them whole, and not what all have in common.",
)
@click.option("--force", is_flag=True, help="Replace an existing settings file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@verbose_option
@click.version_option(VERSION)
def command(
    checkpoint: Path,
    episodes: Path,
    limit: int | None,
    cache: Path | None,
    output: Path | None,
    take: int | None,
    force: bool,
    as_json: bool,
    recordings: RecordingArguments,
    **given: Any,
) -> int:
    """Find the forward pass that CKPT was trained with, by the recorded EPISODES that it was validated on.

    A checkpoint does not say how it was used: which features, which pooling, which prompt. But it carries the
    validation error of its best epoch, val_mae. Every combination of settings that fits its shapes is run on
    the episodes, as the training script did, and held against that number. The answer is "found" only where
    chance does not explain it. It is written as a file for vla-export --settings.

    The backbones take nearly all the time. What they gave is kept, so that Ctrl-C loses nothing. The exit
    code is 1 where no combination fits, or an episode was left out.

    \b
    Examples:
      vla-settings policy.pth episodes/
      vla-settings policy.pth episodes/ --forecast
      vla-settings policy.pth episodes/ --first-frames-only
      vla-settings policy.pth episodes/ --try pooling=max,mean
      vla-settings policy.pth episodes/ --take 1 --force
      vla-export --ckpt policy.pth --settings policy-settings.yaml
    """
    require("export", "torch", "transformers", "yaml")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from vla_edge.runtime.files.writable import refuse_unwritable

    from . import settings_file, view
    from .combinations import parse_tried
    from .recordings import readable
    from .search import SearchOptions, find_settings

    target = output or Path(f"{checkpoint.stem}-settings.yaml")
    cache = cache or _default_cache()
    refuse_unwritable(target.parent)
    refuse_unwritable(cache, "give another folder with --cache")
    if not force and os.path.lexists(target):
        raise click.UsageError(f"{target} exists: give another -o, or --force to replace it.")
    reporter = RichReporter()
    tried = parse_tried(given.pop("tried"))
    options = SearchOptions(checkpoint, cache, tried, forecast_only=given.pop("forecast"), **given)
    if limit is not None:
        reporter.note(
            f"the first {limit} episodes only: val_mae is of all, so that nothing can be found for sure"
        )
    opened = recordings.open(episodes)
    recorded = readable(opened) if recordings.skip_broken else opened
    outcome = find_settings(options, islice(recorded, limit), reporter)
    for error in opened.broken.values():
        print_error(error)
    if outcome is None:
        return int(bool(opened.broken))
    # of some episodes the error is another, and what comes near it does so by chance
    text = settings_file.text_of(outcome, take) if limit is None else None
    if text is not None:
        settings_file.write(target, text, force)
    written = target if text is not None else None
    if as_json:
        click.echo(json_text(view.as_json(outcome, written)))
    else:
        view.print_outcome(outcome, written, limited=limit is not None)
    return int(outcome.verdict.kind == "none" or bool(opened.broken))


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vla-edge", "settings")


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
