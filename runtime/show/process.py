"""The process that shows, as the one that drives has it: started, fed within a time, ended or killed.

Rerun's own calls wait for ever once a viewer has taken nothing for some 100 MB, or never came (0.41): they are made
in a process that can be killed, and that finishes a file when the drive is.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time

from .messages import Beginning, Update, packed

# As builders are started: not `-m`, which looks for modules in the folder that the user happens to be in.
_CHILD = (
    sys.executable,
    "-c",
    "import sys; sys.path[:] = filter(None, sys.path); from vla_edge.runtime.show.child import main; main()",
)
PATIENCE_S = 10.0  # with a viewer that takes nothing
_END_S = 5.0  # to write the rest


class GoneError(Exception):
    """The process has ended, or takes nothing; its text says why."""


class ShowProcess:
    """Shows what it is sent, apart from this process: nothing of it reaches the drive but `GoneError`.

    Args:
        beginning: of the drive.
        command: of the process.

    Raises:
        GoneError: it cannot be started.
    """

    def __init__(self, beginning: Beginning, command: tuple[str, ...] = _CHILD) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the drive; this one ends with its input
            )
        except OSError as error:
            raise GoneError(f"no process can be started: {error}") from error
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:  # asked for above
            raise GoneError("its process has no pipes")
        self._stdin, self._stdout = stdin, stdout
        os.set_blocking(stdin.fileno(), False)
        self._write(packed(beginning), PATIENCE_S)

    def send(self, update: Update, patience_s: float = PATIENCE_S) -> None:
        """Give it an update, as soon as it takes one.

        Raises:
            GoneError: it has ended, or has taken nothing for so long.
        """
        self._write(packed(update), patience_s)

    def end(self) -> None:
        """Let it show the rest, for some seconds.

        Raises:
            GoneError: it could not.
        """
        self._stdin.close()
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired as error:
            raise GoneError(f"it has not shown the rest within {_END_S:g} s") from error
        if code:
            raise GoneError(self._words())
        self.kill()

    def kill(self) -> None:
        """Without waiting for anything but its end."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def abandon(self) -> None:
        """Kill it; from any thread, also while another one waits for it."""
        self._process.kill()

    def _write(self, data: bytes, patience_s: float) -> None:
        left, until_s = memoryview(data), time.monotonic() + patience_s
        while left:
            _, ready, _ = select.select([], [self._stdin], [], max(0.0, until_s - time.monotonic()))
            if not ready:
                raise GoneError(f"it has taken nothing for {patience_s:g} s")
            try:
                left = left[os.write(self._stdin.fileno(), left) :]
            except BlockingIOError:
                continue
            except OSError as error:  # it has closed its end, which it does by ending
                self._process.wait()
                raise GoneError(self._words()) from error

    def _words(self) -> str:
        """Why it ended, as it said itself."""
        try:
            return str(json.loads(self._stdout.read()))
        except ValueError:
            return f"its process ended with code {self._process.returncode}"
