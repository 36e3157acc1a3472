"""What `vla-replay` shows: the answer first, then what it comes to, then a row an episode."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator

import click

from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.printable import one_line

from .against import Difference, Drift, apart_in_words
from .summary import Errors, Summary

_TOLD_POINTS = 6  # of a drift


def print_summary(
    summary: Summary, manifest: Manifest, identity: EngineIdentity, other: str | None, left_out: int = 0
) -> None:
    """What it comes to, in sentences.

    Args:
        summary: of the replay.
        manifest: of the bundle.
        identity: of the engine that ran it.
        other: what was compared with, in words; None for nothing.
        left_out: how many episodes were broken.
    """
    for line in answer(summary, manifest.action, other):
        _say(line, bold=True)
    left = f"; {_count(left_out, 'broken episode')} left out" if left_out else ""
    _say(f"{_count(summary.episodes, 'episode')}, {_count(summary.steps, 'step')}{left}.")
    if manifest.source.weights_origin != "checkpoint":
        _say(
            f"weights: {one_line(manifest.source.weights_origin)}; these figures say nothing of a trained policy."
        )
    if summary.errors is not None:
        _print_errors(summary.errors)
    _print_trainer(summary)
    if summary.difference is not None:
        _print_difference(summary.difference, manifest.action)
    clamped = f", {summary.clamped} limited" if summary.clamped else ""
    _say(f"latency p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms{clamped}")
    _say(one_line(f"{identity}; {identity.compute}"))


def answer(summary: Summary, spec: ActionSpec, other: str | None) -> Iterator[str]:
    """What was asked, in a line or two: how far from the other policy, and from what was driven."""
    if summary.difference is not None:
        furthest = f"{apart_in_words(summary.difference.max)} {one_line(spec.unit)}"
        yield f"At most {furthest} apart from {one_line(other or '')}."
    if summary.errors is None:
        yield "No actions were recorded: nothing to compare with."
        return
    told = zip(summary.errors.mae.items(), spec.units, strict=True)
    means = ", ".join(f"{one_line(name)} {value:.3f} {one_line(unit)}" for (name, value), unit in told)
    largest = f"{summary.errors.largest:.3f} {one_line(spec.unit)}"
    yield f"Off what was driven by {means} on average, {largest} at most."


def _print_errors(errors: Errors) -> None:
    flips = ", ".join(f"{one_line(name)} {count}" for name, count in errors.flips.items())
    angle = "" if errors.angle_deg is None else f"median angle {errors.angle_deg:.1f} degrees; "
    _say(f"{angle}steps that drive the other way: {flips}")


def _print_trainer(summary: Summary) -> None:
    if summary.trainer is None:
        return
    found = summary.trainer
    told = "tells none"
    if summary.val_mae is not None:
        told = f"tells val_mae {summary.val_mae:.4f}, of the episodes that it was validated on"
    _say(
        f"by the training script's protocol, normalised: {found.every_frame:.4f} with each frame's action, "
        f"{found.first_frame:.4f} with the first frame's for all steps; the checkpoint {told}"
    )
    if summary.other_orders:
        others = ", ".join(f"{name} {mae.every_frame:.4f}" for name, mae in summary.other_orders.items())
        _say(f"that is with the files sorted; as the last batch is smaller, in other orders: {others}")


def _print_difference(found: Difference, spec: ActionSpec) -> None:
    unit = one_line(spec.unit)
    _say(
        f"apart: p99 {apart_in_words(found.p99)} {unit}, mean {apart_in_words(found.mean)}; "
        f"{_count(found.flips, 'step')} the other way; "
        f"first third of an episode {apart_in_words(found.early)}, last third {apart_in_words(found.late)}"
    )
    _say(f"apart by step, mean: {_told_drift(found.drift)}")


def _told_drift(drift: Drift) -> str:
    """A few of its points, the first and the last among them."""
    points = len(drift.mean)
    told = sorted({round(at * (points - 1) / (_TOLD_POINTS - 1)) for at in range(_TOLD_POINTS)})
    return ", ".join(f"{at * drift.steps_a_point} {apart_in_words(drift.mean[at])}" for at in told)


def _say(line: str, bold: bool = False) -> None:
    """On a terminal a long line is folded between words; in a file it stays one."""
    if sys.stdout.isatty():
        line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(click.style(line, bold=True) if bold else line)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
