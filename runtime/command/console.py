"""What every command shares: how it ends, where its messages go, `-h`, `-v`, `--version`.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.process.environment import stand_in_for_missing_user
from vla_edge.runtime.process.interrupts import Interrupted, SignalsRaise

from .failures import in_plain_words
from .interrupted import INTERRUPTED, INTERRUPTED_WORD
from .streams import open_closed_streams, outlive_readers, print_any_text
from .wrapping import CommandFormatter, for_terminal

if TYPE_CHECKING:
    from rich.console import Console

# Of every command: `@click.command(context_settings=COMMAND_SETTINGS)`.
COMMAND_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_AnyCallback = TypeVar("_AnyCallback", bound=Callable[..., Any])


class ExamplesFirst(click.Command):
    """A command whose epilog, with examples, stands before its options, as where they are part of the help."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_epilog(ctx, formatter)
        self.format_options(ctx, formatter)


def run_command(command: click.Command) -> NoReturn:
    """Run a click command as the whole process, and exit.

    Exit codes: what the command returns if that is an integer, else 0; the error's own for a `VlaError`
    (printed as `error: <problem>` and its hint, on stderr); 1 for what the system or a library refuses, such
    as a full disk or a package that is missing, in words; 2 for wrong use; 128 and the signal's number for
    Ctrl-C (130), SIGTERM (143) and SIGHUP (129), after everything open was cleaned up. A reader that leaves,
    as `| head -1` does, ends nothing and changes no code.
    """
    signals = SignalsRaise()
    signals.install()
    stand_in_for_missing_user()
    open_closed_streams()
    outlive_readers()
    print_any_text()
    try:
        result = command.main(standalone_mode=False)
        sys.stdout.flush()  # while its failure, as of a full disk, can still be told
    except BaseException as error:
        signals.release()
        if signals.received is not None:  # a library may have dressed it up
            end_with(Interrupted(signals.received))
        end_with(error)
    signals.release()
    sys.exit(result if isinstance(result, int) else 0)


def end_with(error: BaseException) -> NoReturn:
    """Print why the process ends, in one or two lines, and exit.

    Raises:
        BaseException: `error` itself where it is a mistake of ours, for its traceback.
    """
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = error.__cause__  # click's word for Ctrl-C, but also for a file that ends too early
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        click.echo(INTERRUPTED_WORD, err=True, nl=False)
        sys.exit(error.exit_code if isinstance(error, Interrupted) else INTERRUPTED)
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(shown)
        _tell(shown.getvalue().rstrip("\n"))
        sys.exit(error.exit_code)
    found = in_plain_words(error)
    if found is None:
        raise error
    logging.getLogger(__name__).info("where it was raised:", exc_info=error)
    print_error(found)
    sys.exit(found.exit_code)


def print_error(error: VlaError) -> None:
    """Print a user error on stderr: what is wrong, then what to do about it."""
    _tell(f"error: {error.problem}")
    if error.hint:
        _tell(error.hint)


def _tell(text: str) -> None:
    click.echo(for_terminal(text, sys.stderr), err=True)


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


class _OnStderr(logging.Handler):
    """Writes to what is standard error at that moment: while a bar is shown, rich's, which puts lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def configure_logging(verbose: bool) -> None:
    """Send warnings, or with `verbose` everything from INFO up, to stderr."""
    handler = _OnStderr()
    handler.setFormatter(CommandFormatter(plain=not verbose))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("vla_edge").setLevel(logging.INFO if verbose else logging.WARNING)
