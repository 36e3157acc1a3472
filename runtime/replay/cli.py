"""`vla-replay`: a policy on recorded episodes, beside what was driven."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    print_error,
    run_command,
    stderr_console,
    verbose_option,
)
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import check_output, result_file
from vla_edge.runtime.engine_options import EngineArguments, engine_options
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.runtime.episodes.episodes import Episodes
    from vla_edge.runtime.policy import Policy

    from .against import Other
    from .steps import Replayed
    from .summary import Kept, Summary


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("episodes", type=click.Path(exists=True, path_type=Path))
@click.option("--instruction", metavar="TEXT", help="Of all episodes, instead of what each tells.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Run this bundle on the same frames first, and tell how far the two are apart.",
)
@engine_options
@click.option(
    "--camera", metavar="NAME", help="Which camera, where a recording has several: a topic or feature."
)
@click.option("--commands", metavar="TOPIC", help="Which topic of velocities, where a bag has several.")
@click.option(
    "--skip-broken", is_flag=True, help="Pass over episodes that cannot be read; the exit code is 1 then."
)
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
    help="Exit code 1 when the bundle of --against is further apart at any step, in an action's unit.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a line a step to FILE too: .csv, or .jsonl or .ndjson. It appears at the end, whole.",
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
    camera: str | None,
    commands: str | None,
    skip_broken: bool,
    max_mae: float | None,
    max_difference: float | None,
    output: Path | None,
    as_json: bool,
    engine: EngineArguments,
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
    """
    from vla_edge.runtime.episodes.opening import Choice, open_episodes

    from .output import SUFFIXES

    if max_difference is not None and against is None:
        raise click.UsageError("--max-difference needs --against.")
    if output:
        check_output(output, SUFFIXES)
    opened = open_episodes(episodes, choice=Choice(camera, commands), skip_broken=skip_broken)
    other = _other(against, bundle, opened, instruction, engine) if against else None
    with _loaded(bundle, engine) as policy:
        summary = _replayed(policy, opened, instruction, other, output, as_json, against)
    for error in opened.broken.values():
        print_error(error)
    past = _past(summary, max_mae, max_difference)
    return int(past or bool(opened.broken))


@contextlib.contextmanager
def _loaded(bundle: Path, engine: EngineArguments) -> Iterator[Policy]:
    from rich.markup import escape

    from vla_edge.runtime.policy import Policy

    with stderr_console().status(escape(f"checking and loading {one_line(str(bundle))}")):
        policy = Policy.load(bundle, **engine)
    with policy:
        policy.warmup(1)
        yield policy


def _other(
    against: Path, bundle: Path, opened: Episodes, instruction: str | None, engine: EngineArguments
) -> Other:
    """What the other bundle commands. It is closed before the bundle is loaded: both may not fit the memory."""
    from vla_edge.runtime.bundle.bundle import Bundle

    from .against import predicted, require_same_action

    mine, theirs = (Bundle.open(folder, "size").manifest.action for folder in (bundle, against))
    require_same_action(mine, theirs)
    with _loaded(against, engine) as policy:
        found = _episodes(policy, opened, instruction, str(against))
        return {each.steps[0].episode: predicted(each.steps) for each in found}


def _replayed(
    policy: Policy,
    opened: Episodes,
    instruction: str | None,
    other: Other | None,
    output: Path | None,
    as_json: bool,
    against: Path | None,
) -> Summary:
    """Replay, show and write; an episode appears when all of it is done."""
    from .output import as_fields, lines_of, writers
    from .summary import kept_of, summarise
    from .view import Table, print_summary

    spec = policy.manifest.action
    table = None if as_json else Table(policy.manifest, other is not None)
    found: list[Kept] = []
    with result_file(output, writers(spec)) as write:
        for replayed in _episodes(policy, opened, instruction, str(opened.path)):
            found.append(kept_of(replayed, spec, other))
            for line in lines_of(replayed, other):
                write(line)
                if as_json:
                    click.echo(json_text(as_fields(line, spec), indent=None))
            if table:
                table.row(replayed.steps[0].episode, found[-1])
        if not found:
            reason = next(iter(opened.broken.values()))
            raise InputError(f"no episode of {opened.path} can be read: {reason.problem}", reason.hint)
    summary = summarise(found, policy.manifest)
    if as_json:
        click.echo(json_text({"summary": summary, "broken": dict(_reasons(opened))}, indent=None))
    else:
        print_summary(summary, policy.manifest, policy.identity, str(against) if against else None)
    return summary


def _episodes(policy: Policy, opened: Episodes, instruction: str | None, what: str) -> Iterator[Replayed]:
    """The episodes, one after another; a damaged frame passes over all of its episode where that was asked for."""
    from .steps import replay_episode

    with _progress(what, len(opened)) as advance:
        for episode in opened:
            text = instruction or episode.instruction if policy.instructions else None
            try:
                replayed = replay_episode(policy, episode, text)
            except (EpisodeError, ImageError) as error:
                opened.pass_over(episode.name, error)
                continue
            yield replayed
            advance()


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, which leaves nothing."""
    from rich.markup import escape
    from rich.progress import Progress

    console = stderr_console()
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True, redirect_stdout=True) as bar:
        task = bar.add_task(escape(one_line(what)), total=total)
        yield lambda: bar.advance(task)


def _reasons(opened: Episodes) -> Iterator[tuple[str, str]]:
    for name, error in opened.broken.items():
        yield name, error.problem


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
                "no step was taken by both bundles, so nothing was compared.", "Leave the limit out."
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
