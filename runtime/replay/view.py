"""What `vla-replay` shows: a line an episode as they are done, then what it comes to."""

from __future__ import annotations

import shutil
import statistics
import sys
import textwrap
from collections.abc import Iterator

import click

from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.printable import one_line

from .against import Difference, Drift, apart_in_words
from .summary import Errors, Kept, Summary, errors_of

_NO_FIGURE = "-"
_FIGURE_WIDTH = 10
_TOLD_POINTS = 6  # of a drift


class Table:
    """Prints a row an episode; the same text on a terminal and in a file.

    Args:
        manifest: of the bundle.
        other: whether another bundle is compared.
    """

    def __init__(self, manifest: Manifest, other: bool) -> None:
        self._spec, self._other = manifest.action, other
        self._titles = [f"MAE {one_line(name)}" for name in self._spec.names]
        self._titles += ["angle", "flips", *(["apart"] if other else []), "p50"]
        self._units = [
            *map(one_line, self._spec.units),
            "deg",
            "steps",
            *([self._unit] if other else []),
            "ms",
        ]
        longest = map(len, (*self._titles, *self._units))
        self._width = max(_FIGURE_WIDTH, *longest) + 2
        self._begun = False

    @property
    def _unit(self) -> str:
        return one_line(self._spec.unit)

    def row(self, name: str, kept: Kept) -> None:
        """One episode that was replayed whole."""
        if not self._begun:
            for heads, last in ((self._titles, "episode"), (self._units, "")):
                click.echo("".join(f"{head:>{self._width}}" for head in heads) + f"  {last}".rstrip())
            self._begun = True
        figures = list(_figures(kept, self._spec))
        if self._other:
            figures.append(_NO_FIGURE if kept.apart is None else apart_in_words(kept.apart.largest.max()))
        figures.append(f"{statistics.median(kept.latency_ms.tolist()):.1f}")
        cells = "".join(f"{figure:>{self._width}}" for figure in figures)
        click.echo(f"{cells}  {one_line(name)}")


def _figures(kept: Kept, spec: ActionSpec) -> Iterator[str]:
    errors = errors_of([kept], spec)
    if errors is None:
        yield from [_NO_FIGURE] * (len(spec.names) + 2)
        return
    yield from (f"{value:.4f}" for value in errors.mae.values())
    yield _NO_FIGURE if errors.angle_deg is None else f"{errors.angle_deg:.1f}"
    yield str(sum(errors.flips.values()))


def print_summary(summary: Summary, manifest: Manifest, identity: EngineIdentity, other: str | None) -> None:
    """What it comes to, in sentences."""
    _say("")
    _say(f"{_count(summary.episodes, 'episode')}, {_count(summary.steps, 'step')}.")
    if summary.errors is None:
        _say("No actions were recorded: nothing to compare with.")
    else:
        _print_errors(summary.errors, manifest.action)
    _print_trainer(summary)
    if summary.difference is not None:
        _print_difference(summary.difference, manifest.action, other or "")
    clamped = f", {summary.clamped} limited" if summary.clamped else ""
    _say(f"latency p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms{clamped}")
    _say(one_line(f"{identity}; {identity.compute}"))
    if manifest.source.weights_origin != "checkpoint":
        _say(
            f"weights: {one_line(manifest.source.weights_origin)}; these figures say nothing of a trained policy."
        )


def _print_errors(errors: Errors, spec: ActionSpec) -> None:
    told = zip(errors.mae.items(), spec.units, strict=True)
    mae = ", ".join(f"{one_line(name)} {value:.4f} {one_line(unit)}" for (name, value), unit in told)
    _say(f"mean absolute error: {mae}; largest {errors.largest:.4f} {one_line(spec.unit)}")
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


def _print_difference(found: Difference, spec: ActionSpec, other: str) -> None:
    unit = one_line(spec.unit)
    _say(
        f"against {one_line(other)}: at most {apart_in_words(found.max)} {unit} apart, "
        f"p99 {apart_in_words(found.p99)}, mean {apart_in_words(found.mean)}; "
        f"{_count(found.flips, 'step')} the other way; "
        f"first third of an episode {apart_in_words(found.early)}, last third {apart_in_words(found.late)}"
    )
    _say(f"apart by step, mean: {_told_drift(found.drift)}")


def _told_drift(drift: Drift) -> str:
    """A few of its points, the first and the last among them."""
    points = len(drift.mean)
    told = sorted({round(at * (points - 1) / (_TOLD_POINTS - 1)) for at in range(_TOLD_POINTS)})
    return ", ".join(f"{at * drift.steps_a_point} {apart_in_words(drift.mean[at])}" for at in told)


def _say(line: str) -> None:
    """On a terminal a long line is folded between words; in a file it stays one."""
    if line and sys.stdout.isatty():
        line = textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ")
    click.echo(line)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
