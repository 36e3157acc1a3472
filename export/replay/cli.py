"""`vla-replay` on the command line. What it needs of torch is imported where torch is asked for: robots run this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    print_error,
    run_command,
    verbose_option,
)
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.result_file import check_output
from vla_edge.runtime.engine_options import EngineArguments, engine_options
from vla_edge.runtime.episodes.options import (
    RecordingArguments,
    recording_options,
    refuse_in_place_of_actions,
)
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.runtime.replay.summary import Summary

TORCH = "torch"  # of --against; a bundle of this name is ./torch
PAGE_SUFFIXES = {".html": None}
RERUN_SUFFIXES = {".rrd": None}


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("episodes", type=click.Path(exists=True, path_type=Path))
@click.option("--instruction", metavar="TEXT", help="Of all episodes, instead of what each tells.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Run this bundle on the same frames first, and tell how far the two are apart; torch: the checkpoint in "
    "PyTorch FP32.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of --against torch: what BUNDLE was exported from.",
)
@engine_options
@recording_options()
@click.option(
    "--max-mae",
    type=FiniteFloat(min=0),
    metavar="X",
    help="Exit code 1 when the error by the training script's protocol, each frame's action taken, is larger.",
)
@click.option(
    "--max-difference",
    type=FiniteFloat(min=0),
    metavar="X",
    help="Exit code 1 when that of --against is further apart at any step, in an action's unit.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a line a step to FILE too: .csv, .parquet, or .jsonl or .ndjson. It appears at the end, whole.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page too: velocities over time, frames, worst steps. One file, without network.",
)
@click.option(
    "--rerun",
    type=click.Path(path_type=Path),
    metavar="FILE.rrd",
    help="Write a recording for the Rerun viewer too: frames and velocities on one timeline.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object a step, and one with the summary last."
)
@verbose_option
@click.version_option(VERSION, prog_name="vla-replay")
def command(
    bundle: Path,
    episodes: Path,
    instruction: str | None,
    against: Path | None,
    checkpoint: Path | None,
    max_mae: float | None,
    max_difference: float | None,
    output: Path | None,
    page: Path | None,
    rerun: Path | None,
    as_json: bool,
    engine: EngineArguments,
    recordings: RecordingArguments,
) -> int:
    """Replay EPISODES through the policy in BUNDLE, as a robot would run it.

    EPISODES is a recording or a folder of them: HDF5, LeRobot 2.1 and 3, bags of ROS 2 (MCAP, SQLite), videos and
    folders of images, told by what they hold. Each is one sequence: state is carried within it and begins anew, and
    its own instruction is followed.

    For each step: what was driven, what the policy would have, the error, the angle between the two, and whether a
    component drives the other way (both at least 0.05).

    \b
    Examples:
      vla-replay engines/hybrid-fp16 recordings/
      vla-replay engines/hybrid-fp16 recordings/ --max-mae 0.25 -o steps.csv
      vla-replay engines/hybrid-fp16 drive.mcap --against engines/hybrid-fp32
      vla-replay engines/hybrid-fp16 recordings/ --page replay.html
      vla-replay engines/hybrid-fp16 drives/ --against torch --checkpoint a.pth
    """
    from vla_edge.runtime.replay.output import PARQUET, SUFFIXES

    from .replay import Replay, Told, other_policy

    _check_use(against, checkpoint, max_difference)
    if output:
        check_output(output, SUFFIXES)
        refuse_in_place_of_actions(output)
        if output.suffix.lower() == PARQUET:
            require("episodes", "pyarrow")
    if page:
        check_output(page, PAGE_SUFFIXES)
        require("page", "jinja2")
    if rerun:
        check_output(rerun, RERUN_SUFFIXES)
        require("rerun", "rerun")
    opened = recordings.open(episodes)
    replay = Replay(bundle, opened, instruction, engine)
    other = None
    if against:
        other = other_policy(replay, against, checkpoint if str(against) == TORCH else None)
    summary = replay.run(other, Told(output, page, rerun, as_json))
    for error in opened.broken.values():
        print_error(error)
    past = _past(summary, max_mae, max_difference)
    return int(past or bool(opened.broken))


def _check_use(against: Path | None, checkpoint: Path | None, max_difference: float | None) -> None:
    """Refuse options that judge or choose nothing, and torch where it is not installed."""
    if max_difference is not None and against is None:
        raise click.UsageError("--max-difference needs --against.")
    is_torch = against is not None and str(against) == TORCH
    if is_torch and checkpoint is None:
        raise click.UsageError("--against torch needs --checkpoint: the file that BUNDLE was exported from.")
    if checkpoint is not None and not is_torch:
        raise click.UsageError("--checkpoint is for --against torch.")
    if is_torch:
        require("export", "torch", "transformers")


def _past(summary: Summary, max_mae: float | None, max_difference: float | None) -> bool:
    """Whether a limit that was given is exceeded; says which, on stderr.

    Raises:
        InputError: there is nothing to judge.
    """
    past = []
    if max_mae is not None:
        if summary.trainer is None:
            raise InputError("no actions were recorded, so --max-mae judges nothing.", "Leave it out.")
        if summary.trainer.every_frame > max_mae:
            past.append(f"the error {summary.trainer.every_frame:.4f} is past --max-mae {max_mae:g}.")
    if max_difference is not None:
        if summary.difference is None:
            raise InputError(
                "no step was taken by both policies, so nothing was compared.", "Leave the limit out."
            )
        if summary.difference.max > max_difference:
            past.append(
                f"a difference of {summary.difference.max:.4f} is past --max-difference {max_difference:g}."
            )
    for sentence in past:
        click.echo(sentence, err=True)
    return bool(past)


def main() -> None:
    """Entry point of `vla-replay`."""
    run_command(command)


if __name__ == "__main__":
    main()
