"""A policy for a command that drives: loaded and warm, and closed without waiting for an engine that hangs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import stderr_console
from vla_edge.runtime.engine_options import EngineArguments
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.process.interrupts import Interrupted

if TYPE_CHECKING:
    from vla_edge.runtime.policy import Policy


@contextlib.contextmanager
def warm_policy(bundle: Path, engine: EngineArguments) -> Iterator[Policy]:
    """The policy, loaded and warm. One whose engine hangs at the end is left to the process's end.

    Args:
        bundle: its folder.
        engine: as `Policy.load` takes them.

    Raises:
        VlaError: as `Policy.load`.
    """
    from rich.markup import escape

    from vla_edge.runtime.policy import Policy

    with stderr_console().status(escape(f"checking and loading {one_line(str(bundle))}")):
        policy = Policy.load(bundle, **engine)
    try:
        policy.warmup()
        yield policy
    finally:
        try:
            policy.close()
        except EngineError:
            _end_beside_a_hung_engine(sys.exc_info()[1])


def _end_beside_a_hung_engine(error: BaseException | None) -> None:
    """The robot is stopped; no interpreter's tidying up may wait for a thread that never comes back."""
    ended_by = error.__context__ if error is not None else None
    click.echo("error: the engine has not come back; the robot was stopped without it.", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended_by.exit_code if isinstance(ended_by, Interrupted) else 1)
