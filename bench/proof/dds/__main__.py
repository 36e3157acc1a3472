"""The round trip on DDS: frames out, velocities in, and how long a robot moves on when its camera is lost.

    python -m vla_edge.bench.proof.dds BUNDLE --seconds 30

`vla-node` runs as a process of its own, on loopback; this process is camera, operator and base. It publishes JPEGs and
takes the time from handing a frame to DDS until its velocity is there: the frame's stamp comes back in the node's
result, right behind the velocity. Frames that the node replaced by newer ones have no command.

Then the camera is lost, sends a damaged JPEG, and the node is told to end: the time to the first zero velocity, and
every moving one after it.
"""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text

from .report import print_report
from .round_trip import run


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=FiniteFloat(min=0.5),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Of driving on frames of each size.",
)
@click.option(
    "--rate",
    "rate_hz",
    type=FiniteFloat(min=1, max=200),
    default=10.0,
    show_default=True,
    metavar="HZ",
    help="Velocities per second.",
)
@click.option(
    "--camera-rate",
    "camera_hz",
    type=FiniteFloat(min=4, max=200),
    default=30.0,
    show_default=True,
    metavar="HZ",
    help="Frames per second.",
)
@click.option(
    "--deadline",
    "deadline_ms",
    type=FiniteFloat(min=1),
    default=1000.0,
    show_default=True,
    metavar="MS",
    help="Of the node.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    bundle: Path, seconds: float, rate_hz: float, camera_hz: float, deadline_ms: float, as_json: bool
) -> int:
    """Time a node on DDS, from the frame to its velocity, and to the stop when the camera is lost.

    On loopback, between two processes. Exit code 1 when a stop came too late, anything moved after it, or velocities
    came too seldom.

    \b
    Examples:
      python -m vla_edge.bench.proof.dds engines/pure-fp16 --seconds 30
    """
    require("ros2", "cyclonedds")
    report = run(bundle, seconds, rate_hz, camera_hz, deadline_ms)
    if as_json:
        click.echo(json_text(report))
    else:
        print_report(report)
    return 1 if report.failures else 0


def main() -> None:
    """Entry point."""
    run_command(command)


if __name__ == "__main__":
    main()
