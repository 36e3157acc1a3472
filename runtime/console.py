"""What every command shares: how it ends, where its messages go, `-v`.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .errors import VlaError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C

_AnyCallback = TypeVar("_AnyCallback", bound=Callable[..., Any])


def run_command(command: click.Command) -> NoReturn:
    """Run a click command as the whole process, and exit.

    Exit codes: what the command returns if that is an integer, else 0; the error's own for a `VlaError`
    (printed as `error: <problem>` and its mend, on stderr); 1 for what the system refuses, such as a full
    disk (printed as `error: <file>: <reason>`); 2 for wrong use; 130 for Ctrl-C.
    """
    try:
        result = command.main(standalone_mode=False)
    except VlaError as error:
        logging.getLogger(__name__).info("where it was raised:", exc_info=error)
        print_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        logging.getLogger(__name__).info("where it was raised:", exc_info=error)
        named = error.filename is not None and error.strerror is not None
        click.echo(f"error: {error.filename}: {error.strerror}" if named else f"error: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(result if isinstance(result, int) else 0)


def print_error(error: VlaError) -> None:
    """Print a user error on stderr: what is wrong, then how to mend it."""
    click.echo(f"error: {error.problem}", err=True)
    if error.mend:
        click.echo(error.mend, err=True)


def stderr_console() -> Console:
    """A rich console for progress and notes, so that stdout holds results only."""
    from rich.console import Console

    return Console(stderr=True)


def verbose_option(command: _AnyCallback) -> _AnyCallback:
    """Add `-v/--verbose`, which shows the log of this package on stderr; the command gets no argument."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=lambda _context, _option, verbose: configure_logging(verbose),
        help="Log what is done, and where an error came from.",
    )(command)


def configure_logging(verbose: bool) -> None:
    """Send warnings, or with `verbose` everything from INFO up, to stderr."""
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=form)
    logging.getLogger("vla_edge").setLevel(logging.INFO if verbose else logging.WARNING)


@contextmanager
def byte_progress(title: str, total_bytes: int, *, stays: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for work that is counted in bytes; yields what to call with each number done.

    Args:
        title: what is being done.
        total_bytes: of the whole work.
        stays: whether the finished bar is left on the terminal.
    """
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=stderr_console(), transient=not stays) as bar:
        task = bar.add_task(title, total=total_bytes)
        yield lambda size_bytes: bar.advance(task, size_bytes)
