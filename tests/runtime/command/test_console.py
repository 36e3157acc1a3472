"""How commands end."""

from __future__ import annotations

import logging
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from vla_edge.runtime.command.console import configure_logging, run_command, stderr_console, verbose_option
from vla_edge.runtime.errors import BundleError, EngineError


def exit_code_of(callback: Callable[[], object], *arguments: str) -> int:
    command = verbose_option(click.command()(callback))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vla-test", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(command)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def raiser(error: BaseException) -> Callable[[], object]:
    def run() -> None:
        raise error

    return run


def test_a_command_that_returns_nothing_ends_with_0() -> None:
    assert exit_code_of(lambda: None) == 0


def test_a_command_that_returns_a_number_ends_with_it() -> None:
    assert exit_code_of(lambda: 1) == 1


def test_a_user_error_is_printed_as_problem_and_hint_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code_of(raiser(BundleError("model.onnx is gone.", "Copy it again."))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: model.onnx is gone.\nCopy it again.\n"


def test_a_failure_of_the_work_itself_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raiser(EngineError("no GPU."))) == 1
    assert capsys.readouterr().err == "error: no GPU.\n"


def test_what_the_system_refuses_is_told_by_file_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gone" / "report.json"
    assert exit_code_of(lambda: path.write_text("")) == 1
    assert capsys.readouterr().err == f"error: {path}: No such file or directory\n"


def test_what_the_system_refuses_without_a_file_is_told_in_its_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code_of(raiser(OSError("the network is down"))) == 1
    assert capsys.readouterr().err == "error: the network is down\n"


def test_wrong_use_ends_with_2_and_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(lambda: None, "--frobnicate") == 2
    assert "--frobnicate" in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code_of(raiser(ZeroDivisionError()))


def test_ctrl_c_ends_with_130_and_one_word() -> None:
    script = (
        "import os, signal, time, click\n"
        "from vla_edge.runtime.command.console import run_command\n"
        "@click.command()\n"
        "def command():\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\n"
        "run_command(command)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted"


def test_verbose_shows_what_this_package_logs() -> None:
    configure_logging(verbose=True)
    assert logging.getLogger("vla_edge.anything").isEnabledFor(logging.INFO)
    configure_logging(verbose=False)
    assert not logging.getLogger("vla_edge.anything").isEnabledFor(logging.INFO)


def test_progress_goes_to_stderr() -> None:
    assert stderr_console().stderr


@pytest.mark.parametrize(
    "swallowing",
    [
        "try:\n            time.sleep(30)\n        except BaseException:\n            pass",
        "class D:\n            def __del__(self): os.kill(os.getpid(), number); time.sleep(0.1)\n        D()",
    ],
    ids=["except", "destructor"],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_swallows_is_raised_again(swallowing: str, number: signal.Signals) -> None:
    script = f"""
import os, signal, threading, time, click
from vla_edge.runtime.command.console import run_command
number = {int(number)}
@click.command()
def command():
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        {swallowing}
        time.sleep(20)
    finally:
        print("cleaned up")
run_command(command)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode == 128 + number
    assert done.stdout == "cleaned up\n"
    assert done.stderr.strip() == "interrupted"


_WARNS_UNDER_A_BAR = """
import logging, time
from vla_edge.runtime.command.console import configure_logging, stderr_console
from rich.progress import Progress
configure_logging(False)
with Progress(console=stderr_console(), transient=True) as shown:
    shown.add_task("Hashing weights", total=3)
    shown.refresh()
    logging.getLogger("vla_edge.build").warning("memory may run out")
    shown.refresh()
"""


def test_a_warning_under_a_bar_has_a_line_of_its_own() -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _WARNS_UNDER_A_BAR], stderr=end, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                read = os.read(terminal, 1 << 16)
            except OSError:  # Linux's word for the end
                break
            if not read:
                break
            shown += read
        process.wait()
    os.close(terminal)
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown)
    assert b"Hashing weights" in plain
    (line,) = [line for line in re.split(rb"[\r\n]+", plain) if b"memory may run out" in line]
    assert line == b"warning: memory may run out"
