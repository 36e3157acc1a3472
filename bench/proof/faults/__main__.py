"""Break a driving policy in every way, again and again, and count what still moves: it has to be nothing.

    python -m vla_edge.bench.proof.faults BUNDLE --minutes 30

A process drives on a real policy (`vla_edge.bench.proof.faults.driving`) and is broken from within; in the end it is
ended from outside by SIGTERM, SIGINT, SIGHUP, SIGKILL or its parent's death, and a new one is started. This process
is the robot: it gets the commands as datagrams, by the sender's clock, which on one machine is its own, too.

Of each fault it tells the longest time to the stop, and counts moving commands between the first stop and the
reset, and those that came later than the fault's limit. Memory is that of the driving process.
"""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text

from .report import print_report
from .robot import run


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--minutes",
    type=FiniteFloat(min=0),
    default=0.0,
    metavar="M",
    help="How long. [default: each fault once, half a minute]",
)
@click.option(
    "--rate",
    "rate_hz",
    type=FiniteFloat(min=4, max=100),
    default=10.0,
    show_default=True,
    metavar="HZ",
    help="Commands per second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(bundle: Path, minutes: float, rate_hz: float, as_json: bool) -> int:
    """Break a driving policy in every way, and count what still moves.

    BUNDLE is a small one, on the CPU. Exit code 1 when anything moved after a fault, a stop came too late, or memory
    grew.

    \b
    Examples:
      python -m vla_edge.bench.proof.faults engines/tiny-fp16 --minutes 30
    """
    report = run(bundle, rate_hz, minutes)
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
