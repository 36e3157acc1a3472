"""A replay as one HTML page: no script, no network, frames inside, readable on a phone, light and dark."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.export.page.templates import environment
from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.policy import Policy
from vla_edge.runtime.replay.against import Drift, apart_in_words
from vla_edge.runtime.replay.summary import Kept, Summary, errors_of
from vla_edge.runtime.version import VERSION

from .curves import Chart, Curve, ends_of, histogram, path_of, thinned, ticks
from .pictures import MAX_DRAWN, Drawn, Pictures

TEMPLATES = Path(__file__).parent
WORST = 6
TABLE_ROWS = 500  # nobody scrolls past so many; the file of steps has all
NOTHING = "–"


@dataclass(frozen=True)
class EpisodeView:
    """What the page shows of an episode."""

    drawn: Drawn
    line: str
    charts: tuple[Chart, ...]


def write_page(
    path: Path, policy: Policy, summary: Summary, kept: Sequence[Kept], pictures: Pictures, other: str
) -> None:
    """Write the page; it appears whole.

    Args:
        path: of the page.
        policy: that was replayed.
        summary: what it comes to.
        kept: the episodes.
        pictures: gathered meanwhile.
        other: what was compared with, in words; "" for nothing.

    Raises:
        OSError: the file cannot be written.
    """
    text = to_page(policy, summary, kept, pictures, other)
    write_atomically(path, lambda file: file.write(text.encode()))


def to_page(policy: Policy, summary: Summary, kept: Sequence[Kept], pictures: Pictures, other: str) -> str:
    """The page as HTML."""
    manifest = policy.manifest
    spec = manifest.action
    legend = [("torch", "driven"), ("engine", "predicted"), *([("s2", other)] if other else [])]
    values = {
        "name": manifest.name,
        "created": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "tool": f"vla-edge {VERSION}",
        "headline": headline(summary, spec),
        "generated": manifest.source.weights_origin != "checkpoint",
        "counts": f"{summary.episodes:,} episodes, {summary.steps:,} steps",
        "tiles": list(_tiles(summary, spec)),
        "readings": _readings(summary),
        "worst": pictures.worst[:WORST],
        "names": spec.names,
        "unit": spec.unit,
        "charts": list(_overview(summary, kept, spec, other)),
        "episodes": [
            EpisodeView(each, _line(each, spec), _charts(each, spec, other)) for each in pictures.drawn
        ],
        "legend": legend,
        "not_drawn": max(0, len(kept) - MAX_DRAWN),
        "heads": [*(f"MAE {name} [{unit}]" for name, unit in zip(spec.names, spec.units, strict=True))],
        "rows": [_row(each, spec) for each in kept[:TABLE_ROWS]],
        "not_listed": max(0, len(kept) - TABLE_ROWS),
        "other": other,
        "engine": f"{policy.identity}; {policy.identity.compute}",
    }
    return environment(TEMPLATES).get_template("replay.html.j2").render(values)


def headline(summary: Summary, spec: ActionSpec) -> str:
    """The answer in a sentence."""
    errors, trainer = summary.errors, summary.trainer
    if errors is None or trainer is None:
        return f"{summary.steps:,} steps replayed; nothing was driven to compare with"
    told = "" if summary.val_mae is None else f", the checkpoint tells {summary.val_mae:.4f}"
    largest = f"{errors.largest:.2f}\N{NO-BREAK SPACE}{spec.unit}"
    return f"MAE {trainer.every_frame:.4f}{told}; at worst {largest} off what was driven"


def _tiles(summary: Summary, spec: ActionSpec) -> Iterator[tuple[str, str, str]]:
    """Value, unit, what it is."""
    if summary.trainer is not None:
        yield f"{summary.trainer.every_frame:.4f}", "", "MAE, normalised, by the training script's protocol"
    if summary.val_mae is not None:
        yield f"{summary.val_mae:.4f}", "", "val_mae that the checkpoint tells"
    if summary.errors is not None:
        yield f"{summary.errors.largest:.3f}", spec.unit, "largest error of a step"
        yield f"{sum(summary.errors.flips.values()):,}", "", "times that a component drives the other way"
    if summary.difference is not None:
        yield apart_in_words(summary.difference.max), spec.unit, "largest difference between the two policies"
    yield f"{summary.p50_ms:.1f}", "ms", "p50 of a step"


def _readings(summary: Summary) -> str:
    """What is not known of the training script's protocol, and what it comes to otherwise."""
    if summary.trainer is None:
        return ""
    told = f"With the first frame's action for all steps, the MAE is {summary.trainer.first_frame:.4f}."
    for name, mae in summary.other_orders.items():
        told += f" With the files {name}, it is {mae.every_frame:.4f}."
    return told


def _overview(summary: Summary, kept: Sequence[Kept], spec: ActionSpec, other: str) -> Iterator[Chart]:
    wrong = np.concatenate(
        [np.abs(each.errors).max(axis=1) for each in kept if len(each.errors)] or [np.zeros(0)]
    )
    if len(wrong):
        yield histogram(wrong, "How far off the steps are", spec.unit)
    if summary.difference is not None:
        apart = np.concatenate([each.apart.largest for each in kept if each.apart is not None])
        yield histogram(apart, "How far the two policies are apart", spec.unit)
        yield _drift(summary.difference.drift, spec)


def _drift(drift: Drift, spec: ActionSpec) -> Chart:
    x = np.arange(len(drift.mean)) * float(drift.steps_a_point)
    x_ends = (0.0, max(float(x[-1]), 1.0))
    y_ends = (0.0, max(*drift.max, 1e-6) * 1.06)
    curves = [("engine", "mean", drift.mean), ("s2", "largest", drift.max)]
    return Chart(
        "How the difference grows",
        "step of an episode",
        spec.unit,
        ticks(*x_ends),
        ticks(*y_ends, 3),
        tuple(
            Curve(role, name, path_of(x, np.array(values), x_ends, y_ends)) for role, name, values in curves
        ),
    )


def _charts(drawn: Drawn, spec: ActionSpec, other: str) -> tuple[Chart, ...]:
    """A chart a component."""
    lines = [
        ("torch", "driven", drawn.recorded),
        ("engine", "predicted", drawn.predicted),
        ("s2", other, drawn.against),
    ]
    known = [(role, name, values) for role, name, values in lines if values is not None]
    off = np.abs(
        drawn.predicted - (drawn.predicted.mean(axis=0) if drawn.recorded is None else drawn.recorded)
    )
    chosen = thinned(off.max(axis=1))
    timed = drawn.times_s is not None and len(drawn.times_s) > 1 and drawn.times_s[-1] > drawn.times_s[0]
    x = drawn.times_s if timed and drawn.times_s is not None else np.arange(len(drawn.predicted), dtype=float)
    x_ends = (float(x[0]), float(x[-1]) if len(x) > 1 else float(x[0]) + 1)
    charts = []
    for at, (name, unit) in enumerate(zip(spec.names, spec.units, strict=True)):
        y_ends = ends_of([values[:, at] for _, _, values in known])
        curves = tuple(
            Curve(role, label, path_of(x[chosen], values[chosen, at], x_ends, y_ends))
            for role, label, values in known
        )
        label = "seconds" if timed else "step"
        charts.append(Chart(name, label, f"{name} [{unit}]", ticks(*x_ends), ticks(*y_ends, 4), curves))
    return tuple(charts)


def _line(drawn: Drawn, spec: ActionSpec) -> str:
    """How far off an episode is, in words."""
    if drawn.recorded is None:
        return f"{len(drawn.predicted):,} steps; no actions were recorded"
    wrong = np.abs(drawn.predicted - drawn.recorded)
    mae = ", ".join(f"{name} {value:.3f}" for name, value in zip(spec.names, wrong.mean(axis=0), strict=True))
    at = int(wrong.max(axis=1).argmax())
    return f"{len(wrong):,} steps; MAE {mae} {spec.unit}; furthest off at step {at}, by {wrong.max():.3f}"


def _row(kept: Kept, spec: ActionSpec) -> tuple[str, ...]:
    errors = errors_of([kept], spec)
    told = (NOTHING,) * (len(spec.names) + 3)
    if errors is not None:
        angle = NOTHING if errors.angle_deg is None else f"{errors.angle_deg:.1f}"
        mae = (f"{value:.4f}" for value in errors.mae.values())
        told = (*mae, f"{errors.largest:.4f}", angle, str(sum(errors.flips.values())))
    apart = NOTHING if kept.apart is None else apart_in_words(kept.apart.largest.max())
    return (kept.name, *told, apart, f"{np.median(kept.latency_ms):.1f}")
