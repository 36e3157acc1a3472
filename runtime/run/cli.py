"""`vla-run`: actions for images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import run_command, stderr_console, verbose_option
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import check_output, result_file
from vla_edge.runtime.engine_options import EngineArguments, engine_options
from vla_edge.runtime.episodes.options import (
    RecordingArguments,
    recording_options,
    refuse_in_place_of_actions,
)
from vla_edge.runtime.errors import ImageError, InputError
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.version import VERSION

from .images import Result, list_images, run_batches, run_images
from .output_file import SUFFIXES, Write, as_fields, writers
from .time_limit import MOST_SECONDS, TimeLimit
from .view import Table, note_order, print_refusal

if TYPE_CHECKING:
    from vla_edge.runtime.batch import BatchPolicy
    from vla_edge.runtime.episodes.episodes import Episodes
    from vla_edge.runtime.policy import Policy


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--instruction", metavar="TEXT", help="What to do; the bundle's default if not given.")
@engine_options
@click.option(
    "--reset-each/--sequence",
    default=True,
    show_default=True,
    help="Each image is an episode of its own, or they are successive frames of one: only then does a policy "
    "carry its state (or hold its first action) from image to image.",
)
@click.option(
    "--bgr",
    is_flag=True,
    help="The files hold blue where red belongs, as OpenCV's arrays do when another library saves them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the results to FILE too: .csv, or .jsonl or .ndjson with all there is. It appears at the end, whole, "
    "and replaces an earlier one; of a run that ends early the results so far are kept in FILE.partial.",
)
@click.option(
    "--time-limit",
    "limit_s",
    type=FiniteFloat(min=0, max=MOST_SECONDS, min_open=True),
    metavar="SECONDS",
    help="End, with code 1, when loading or one result takes longer: a stranger's graph may compute for ever.",
)
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used, with exit code 2.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line and image.")
@recording_options(skips=False, actions=False)
@verbose_option
@click.version_option(VERSION, prog_name="vla-run")
def command(
    bundle: Path,
    images: tuple[Path, ...],
    instruction: str | None,
    reset_each: bool,
    bgr: bool,
    output: Path | None,
    limit_s: float | None,
    strict: bool,
    as_json: bool,
    engine: EngineArguments,
    recordings: RecordingArguments,
) -> int:
    """Print the actions of the policy in BUNDLE for IMAGES.

    IMAGES are image files, or folders of them (sorted as people count: frame2 before frame10); or recordings:
    videos, HDF5, LeRobot data sets, bags of ROS 2 (extra: episodes). Each episode of a recording is a sequence
    whose own instruction is followed.

    A bundle that was exported with --batch takes as many images at a time, each an episode of its own.

    Results go to stdout; why an image could not be used goes to stderr, and the exit code is 1 then. It is 2 for a
    bad bundle, instruction or option, and with --strict for a bad image.

    \b
    Examples:
      vla-run engines/hybrid-fp16 photo.jpg
      vla-run engines/hybrid-fp16 frames/ --instruction "컵까지 가세요"
      vla-run engines/pure-fp16 frames/ --sequence -o actions.csv
      vla-run engines/pure-fp16 drive.mp4 --instruction "컵까지 가세요"
      vla-run from-a-stranger/ photo.jpg --time-limit 60
    """
    if bundle.is_file():  # before the images, of which it would be said that they are none
        from vla_edge.runtime.bundle.finding import no_bundle

        raise no_bundle(bundle)
    paths = list_images(images, recordings.choice)
    if output:
        check_output(output, SUFFIXES)
        refuse_in_place_of_actions(output)
    if not reset_each:
        note_order([path for path in paths if isinstance(path, Path)])
    with (
        TimeLimit(limit_s, one_line(str(bundle))) as limit,
        _loaded(bundle, not reset_each, engine) as policy,
    ):
        limit.next()
        table = None if as_json else Table(policy.manifest, policy.identity)
        results = _results(policy, paths, instruction, reset_each=reset_each, strict=strict, swapped=bgr)
        with result_file(output, writers(policy.manifest.action)) as write:
            failures = _show(results, write, table, limit)
    return 1 if failures else 0


@contextlib.contextmanager
def _loaded(bundle: Path, one_by_one: bool, engine: EngineArguments) -> Iterator[Policy | BatchPolicy]:
    """The policy in a bundle, loaded and warm: for one frame at a time, or for a batch."""
    from rich.markup import escape

    from vla_edge.runtime.batch import BatchPolicy
    from vla_edge.runtime.bundle.bundle import Bundle
    from vla_edge.runtime.policy import Policy

    batch = Bundle.open(bundle, "size").manifest.batch
    if batch > 1 and one_by_one:
        raise InputError(
            f"{bundle} takes {batch} frames at a time, each an episode of its own: --sequence needs one at a time.",
            "Export it with --batch 1, or leave out --sequence.",
        )
    policy: Policy | BatchPolicy
    with stderr_console().status(escape(f"checking and loading {one_line(str(bundle))}")):
        policy = (Policy if batch == 1 else BatchPolicy).load(bundle, **engine)
    with policy:
        policy.warmup(1)
        yield policy


def _results(
    policy: Policy | BatchPolicy,
    paths: Sequence[Path | Episodes],
    instruction: str | None,
    *,
    reset_each: bool,
    strict: bool,
    swapped: bool,
) -> Iterator[Result]:
    from vla_edge.runtime.batch import BatchPolicy

    if isinstance(policy, BatchPolicy):
        return run_batches(policy, paths, instruction, strict=strict, swapped=swapped)
    return run_images(policy, paths, instruction, reset_each=reset_each, strict=strict, swapped=swapped)


def _show(results: Iterator[Result], write: Write, table: Table | None, limit: TimeLimit) -> int:
    """Write and print results as they come; returns how many images could not be used."""
    failures = 0
    for result in results:
        limit.next()
        write(result)
        failures += isinstance(result[1], ImageError)
        if table:
            table.row(result)
        else:
            click.echo(json_text(as_fields(result), indent=None))
            if isinstance(result[1], ImageError):
                print_refusal(result[1])
    if table:
        table.end(failures)
    return failures


def main() -> None:
    """Entry point of `vla-run`."""
    run_command(command)


if __name__ == "__main__":
    main()
