"""What every command shares: how it ends, where its messages go, `-h`, `-v`, `--version`.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from .environment import stand_in_for_missing_user
from .errors import VlaError
from .failures import in_plain_words
from .interrupts import Interrupted, SignalsRaise
from .start import INTERRUPTED_WORD
from .terminal import PrintableFormatter

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for Ctrl-C
_ESCAPING = "vla-edge-escape"  # of Python's codecs

# Of every command: `@click.command(context_settings=COMMAND_SETTINGS)`.
COMMAND_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_AnyCallback = TypeVar("_AnyCallback", bound=Callable[..., Any])


def run_command(command: click.Command) -> NoReturn:
    """Run a click command as the whole process, and exit.

    Exit codes: what the command returns if that is an integer, else 0; the error's own for a `VlaError`
    (printed as `error: <problem>` and its mend, on stderr); 1 for what the system or a library refuses, such
    as a full disk or a package that is missing, in words; 2 for wrong use; 128 and the signal's number for
    Ctrl-C (130), SIGTERM (143) and SIGHUP (129), after everything open was cleaned up.
    """
    signals = SignalsRaise()
    signals.install()
    stand_in_for_missing_user()
    _open_closed_streams()
    print_any_text()
    try:
        result = command.main(standalone_mode=False)
        _flush_stdout()
    except BaseException as error:
        signals.release()
        if signals.received is not None:  # a library may have dressed it up
            end_with(Interrupted(signals.received))
        end_with(error)
    signals.release()
    sys.exit(result if isinstance(result, int) else 0)


def _flush_stdout() -> None:
    """Write out what was printed while its failure can still be told; a reader that left is no failure of ours."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


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
        error.show()
        sys.exit(error.exit_code)
    found = in_plain_words(error)
    if found is None:
        raise error
    logging.getLogger(__name__).info("where it was raised:", exc_info=error)
    print_error(found)
    sys.exit(found.exit_code)


def _open_closed_streams() -> None:
    """Give streams that the caller closed (`>&-`) a place that takes and tells nothing.

    Else the next file that is opened gets their number, and what a library prints goes into it.
    """
    for number in range(3):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  for all its life


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def print_any_text() -> None:
    """Let an output that has not all letters, such as an ASCII one, show the others as `\\uXXXX`.

    In the form that JSON has for them, so that JSON stays JSON.
    """
    codecs.register_error(_ESCAPING, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end


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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("vla_edge").setLevel(logging.INFO if verbose else logging.WARNING)
