"""Where the commands begin: Ctrl-C is quiet from the first moment, before anything slow is imported.

Each function is the entry point of the command of its name. Commands are named as text, so that nothing of
them is imported here.
"""

from __future__ import annotations

# the interpreter's own: `signal` takes milliseconds for its enumerations
import _signal as signal  # type: ignore[import-not-found]
import os

from .interrupted import INTERRUPTED_WORD


def launch(module: str) -> None:
    """Import a command's module and run its `main`, which exits.

    Args:
        module: such as "vla_edge.export.cli".
    """
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _end_now)
        from importlib import import_module

        try:
            main = import_module(module).main
        except Exception as error:
            from .console import end_with

            end_with(error)  # in words where there are any, else with its traceback
    except KeyboardInterrupt:  # Python's own, from before the handlers were there
        _end_now(signal.SIGINT)
    main()


def _end_now(number: int, frame: object = None) -> None:
    """End this process: nothing has been begun that would have to be cleaned up.

    An exception would not do. Raised inside an import, it is swallowed or dressed up by what is imported.
    """
    try:
        os.write(2, INTERRUPTED_WORD)
    finally:  # also where the terminal is closed
        os._exit(128 + number)


def vla_bench() -> None:
    launch("vla_edge.bench.cli")


def vla_bisect() -> None:
    launch("vla_edge.export.bisect.cli")


def vla_build() -> None:
    launch("vla_edge.export.build.cli")


def vla_bundle() -> None:
    launch("vla_edge.export.deploy.cli")


def vla_doctor() -> None:
    launch("vla_edge.export.doctor.cli")


def vla_drive() -> None:
    launch("vla_edge.runtime.drive.cli")


def vla_export() -> None:
    launch("vla_edge.export.cli")


def vla_inspect() -> None:
    launch("vla_edge.export.inspect.cli")


def vla_node() -> None:
    launch("vla_edge.runtime.ros2.cli")


def vla_replay() -> None:
    launch("vla_edge.export.replay.cli")


def vla_run() -> None:
    launch("vla_edge.runtime.run.cli")


def vla_sample() -> None:
    launch("vla_edge.export.sample.cli")


def vla_settings() -> None:
    launch("vla_edge.export.search.cli")
