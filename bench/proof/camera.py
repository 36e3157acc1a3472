"""From a camera's frame to an action: resized by the engine, or by Pillow and NumPy on the host.

    python -m vla_edge.bench.proof.camera engines/at-720p-fp16 engines/fp16

Bundles of one checkpoint: one or several with a camera (`vla-export --camera`), then the plain one, which is given
frames of each camera's size. All are loaded in one process and take turns in short rounds, since machines are shared
and clocks move. Frames are noise, taken in turn from more memory than a core's cache holds. Of each way also the CPU
time of the whole process for an action: waiting for a GPU spins, and counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import mean, median

import click
import numpy as np
from msgspec import Struct

from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.output.markdown import table_lines
from vla_edge.bench.output.tables.grid import Grid, Line
from vla_edge.bench.report.types import Latency
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.policy import Policy

FRAMES = 8  # 22 MB of 720p
SETTLING_CALLS = 20

IN_PLACE, COPIED, ENGINE = "frame in place", "frame copied", "its engine alone"
PILLOW, PLAIN_ENGINE = "Pillow and NumPy", "plain engine alone"


class Way(Struct, frozen=True, kw_only=True):
    """One way from a frame to an action, or an engine alone.

    Attributes:
        latency: of all calls. An engine alone is timed by the GPU's own events, without copies, where it can be;
            else by the host's clock, on inputs in place.
        cpu_ms: CPU time of the process for a call, all its threads, the mean.
        above_engine_ms: the median over rounds of the difference of medians to the engine alone; None of that itself.
    """

    latency: Latency
    cpu_ms: float
    above_engine_ms: float | None


class CameraTimes(Struct, frozen=True, kw_only=True):
    """A camera's size.

    Attributes:
        bundle: with the camera.
        height, width, channels: of its frames.
        ways: by `IN_PLACE`, `COPIED`, `ENGINE`, `PILLOW`, `PLAIN_ENGINE`.
        apart: the largest difference of a component of the action between this bundle and the plain one, over all
            frames, each in its own unit.
        unit: that `apart` is in.
    """

    bundle: str
    height: int
    width: int
    channels: str
    ways: dict[str, Way]
    apart: float
    unit: str


class CameraReport(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        engine: of the plain bundle.
        gpu: whether engines alone were timed by the GPU's own events.
        cameras: in the order of the bundles.
    """

    engine: str
    gpu: bool
    cameras: tuple[CameraTimes, ...]


@dataclass
class _Contestant:
    """What takes turns.

    Attributes:
        step: does one call; returns its milliseconds where it measures them itself.
        engine: that of its bundle alone; None of such a one.
        rounds: milliseconds of all calls, by round.
        cpu: milliseconds of CPU time for a call, of each round.
    """

    step: Callable[[], float | None]
    engine: _Contestant | None = None
    rounds: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def round(self, calls: int) -> None:
        times: list[float] = []
        began = time.process_time_ns()
        for _ in range(calls):
            start = time.perf_counter_ns()
            told = self.step()
            times.append((time.perf_counter_ns() - start) / 1e6 if told is None else told)
        self.rounds.append(times)
        self.cpu.append((time.process_time_ns() - began) / 1e6 / calls)

    @property
    def way(self) -> Way:
        latency = summarise([value for times in self.rounds for value in times])
        if latency is None:
            raise ValueError("no call was timed")
        above = None
        if self.engine is not None:
            pairs = zip(self.rounds, self.engine.rounds, strict=True)
            above = median(median(ours) - median(engine) for ours, engine in pairs)
        return Way(latency=latency, cpu_ms=mean(self.cpu), above_engine_ms=above)


def camera(cameras: Sequence[Path], plain: Path, backend: str, rounds: int, calls: int) -> CameraReport:
    """Time bundles with cameras beside the plain one.

    Args:
        cameras: bundles exported with `--camera`.
        plain: a bundle of the same checkpoint without.
        backend: as for `Policy.load`.
        rounds: how often all take turns.
        calls: of each in a round.

    Raises:
        InputError: a bundle has no camera, or the plain one has.
        VlaError: a bundle or engine cannot be used.
    """
    with ExitStack() as opened:
        policies = [opened.enter_context(Policy.load(folder, backend)) for folder in (*cameras, plain)]
        *seeing, reference = policies
        _check(seeing, reference)
        found = [_contestants(policy, reference) for policy in seeing]
        everybody = [each for ways, _ in found for each in ways.values()]
        for each in everybody:
            _Contestant(each.step).round(min(SETTLING_CALLS, calls))
        for at in range(rounds):
            first = at % len(everybody)  # who begins changes
            for each in (*everybody[first:], *everybody[:first]):
                each.round(calls)
        times = tuple(
            CameraTimes(
                bundle=policy.manifest.name,
                height=policy.frame.shape[1],
                width=policy.frame.shape[2],
                channels=policy.channels,
                ways={name: each.way for name, each in ways.items()},
                apart=apart,
                unit=policy.manifest.action.unit,
            )
            for policy, (ways, apart) in zip(seeing, found, strict=True)
        )
        engine = f"{reference.identity}, {reference.identity.provider}"
        return CameraReport(engine=engine, gpu=hasattr(reference.session, "run_engine_ms"), cameras=times)


def _check(seeing: Sequence[Policy], reference: Policy) -> None:
    for policy in seeing:
        if policy.manifest.camera is None:
            raise InputError(
                f"the bundle {policy.manifest.name!r} has no camera.",
                "Export it with --camera HEIGHTxWIDTH; the plain bundle comes last.",
            )
    if reference.manifest.camera is not None:
        raise InputError(
            f"the bundle {reference.manifest.name!r} has a camera.", "Let a bundle without one come last."
        )


def _contestants(policy: Policy, reference: Policy) -> tuple[dict[str, _Contestant], float]:
    """All ways for frames of one size, and how far actions of both bundles are apart."""
    shape = policy.frame.shape[1:]
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, *shape), np.uint8)
    apart = max(
        abs(one - other)
        for frame in frames
        for one, other in zip(_values(policy, frame), _values(reference, frame), strict=True)
    )
    engine, plain_engine = _Contestant(_engine(policy)), _Contestant(_engine(reference))
    ways = {
        IN_PLACE: _Contestant(_acting(policy, [policy.frame]), engine),
        COPIED: _Contestant(_acting(policy, list(frames)), engine),
        ENGINE: engine,
        PILLOW: _Contestant(_acting(reference, list(frames)), plain_engine),
        PLAIN_ENGINE: plain_engine,
    }
    return ways, apart


def _values(policy: Policy, rgb: np.ndarray) -> tuple[float, ...]:
    policy.reset()
    return policy.act(np.ascontiguousarray(policy.in_order(rgb))).values


def _acting(policy: Policy, frames: Sequence[np.ndarray]) -> Callable[[], None]:
    turns = cycle(frames)

    def act() -> None:
        policy.reset()  # a policy of first frames would repeat its action; half a microsecond else
        policy.act(next(turns))

    return act


def _engine(policy: Policy) -> Callable[[], float | None]:
    timed: Callable[[], float] | None = getattr(policy.session, "run_engine_ms", None)
    return timed if timed is not None else policy.session.run


def answer(report: CameraReport) -> str:
    """What was found, in words; a line for each camera."""
    return "\n".join(_sentences(report))


def _sentences(report: CameraReport) -> Iterator[str]:
    for each in report.cameras:
        inside, copied, pillow = (each.ways[name] for name in (IN_PLACE, COPIED, PILLOW))
        above, copied_above = (way.above_engine_ms or 0.0 for way in (inside, copied))
        yield (
            f"From a frame of {each.height}x{each.width} to an action: {inside.latency.p50_ms:.2f} ms where the "
            f"frame lies in place (its engine {above:+.3f}), {copied.latency.p50_ms:.2f} ms copied "
            f"({copied_above:+.3f}), {pillow.latency.p50_ms:.2f} ms by Pillow and NumPy; of the host's CPU "
            f"{inside.cpu_ms:.2f}, {copied.cpu_ms:.2f} and {pillow.cpu_ms:.2f} ms."
        )


def table(report: CameraReport) -> Grid:
    """A line for each way of each camera."""
    lines = tuple(
        Line((f"{each.height}x{each.width} {each.channels}", name, *_figures(way)))
        for each in report.cameras
        for name, way in each.ways.items()
    )
    return Grid(
        "camera",
        "ms",
        ("frame", "way"),
        ("p50 ms", "p99 ms", "above its engine", "CPU ms an action"),
        lines,
    )


def _figures(way: Way) -> tuple[str, ...]:
    p50, p99 = f"{way.latency.p50_ms:.3f}", f"{way.latency.p99_ms:.3f}"
    above = way.above_engine_ms
    return (p50, p99, "", "") if above is None else (p50, p99, f"{above:.3f}", f"{way.cpu_ms:.3f}")


def _show(report: CameraReport) -> None:
    click.echo(f"{answer(report)}\n")
    click.echo("\n".join((*table_lines(table(report)), "")))
    calls = report.cameras[0].ways[COPIED].latency.runs
    timed = (
        "engines alone by the GPU's own events, without copies"
        if report.gpu
        else "no GPU here: engines alone by the host's clock, and the CPU computes what a GPU would"
    )
    click.echo(f"{report.engine}; {calls} calls each, in turn; {timed}.")
    for each in report.cameras:
        click.echo(f"{each.bundle}: actions at most {each.apart:.1e} {each.unit} from the plain bundle's.")


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("cameras", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("plain", type=click.Path(path_type=Path))
@click.option("--backend", default="auto", show_default=True, help="As for Policy.load.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--calls", type=click.IntRange(1), default=50, show_default=True, help="Of each in a round.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    cameras: tuple[Path, ...], plain: Path, backend: str, rounds: int, calls: int, as_json: bool
) -> int:
    """Time CAMERAS, bundles that take frames as they are, beside the bundle PLAIN of the same checkpoint.

    Runs on a CPU, too, and says so.

    \b
    Example:
      python -m vla_edge.bench.proof.camera engines/at-720p-fp16 engines/fp16
    """
    report = camera(cameras, plain, backend, rounds, calls)
    if as_json:
        click.echo(json_text(report))
    else:
        _show(report)
    return 0


if __name__ == "__main__":
    run_command(command)
