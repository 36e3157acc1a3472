"""Running a command as a process of its own, as a user does, in a world where something is amiss."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vla_edge.runtime.command import start

COMMANDS = (
    "vla-bench",
    "vla-bisect",
    "vla-build",
    "vla-bundle",
    "vla-doctor",
    "vla-drive",
    "vla-export",
    "vla-inspect",
    "vla-node",
    "vla-replay",
    "vla-run",
    "vla-sample",
    "vla-settings",
)

# An import hook that hides packages, or sends this process a signal when a module's turn comes.
_BEGIN = """
import os, sys
hidden, moment, number = set({hidden!r}), {moment!r}, {number!r}
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), number)
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hook())
{before}
del sys.argv[0]
from vla_edge.runtime.command import start
getattr(start, sys.argv[0].replace("-", "_"))()
"""


def module_of(command: str) -> str:
    """The module that a command's entry point imports."""
    launched: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "launch", launched.append)
        getattr(start, command.replace("-", "_"))()
    (module,) = launched
    return module


def run(
    arguments: Sequence[str],
    *,
    hidden: Sequence[str] = (),
    moment: str = "",
    number: int = 0,
    before: str = "",
    environment: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command by its entry point.

    Args:
        arguments: the command's name, and its arguments.
        hidden: packages that cannot be imported.
        moment: a module at whose import the process gets the signal `number`.
        before: Python that runs first.
        environment: replaces this process's.
        prefix: of the command line, such as `setpriv`.
    """
    script = _BEGIN.format(hidden=tuple(hidden), moment=moment, number=int(number), before=before)
    return subprocess.run(
        [*prefix, sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=dict(os.environ) if environment is None else environment,
    )
