"""A check that hangs, crashes or fails takes nothing with it, and is told."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vla_edge.export.doctor.apart import Apart, Failure, Work
from vla_edge.export.doctor.examination import Check, Diagnosis, Looked, Patient, run_checks, run_samples
from vla_edge.export.doctor.finding import Finding
from vla_edge.runtime.errors import EngineError


def answers(*functions: Callable[[], object], limit_s: float = 20) -> list[bytes | Failure]:
    with Apart([Work(function, limit_s) for function in functions]) as apart:
        return apart.answers()


def fails(error: BaseException) -> Callable[[], object]:
    def function() -> object:
        raise error

    return function


def fails_with_folder(folder: Path) -> object:
    raise OSError(5, "Input/output error")


def dies(folder: Path) -> object:
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def test_answers_come_in_the_order_of_the_works() -> None:
    assert answers(lambda: [1, "two"], lambda: {"three": 3}) == [b'[1,"two"]', b'{"three":3}']


def test_a_large_answer_comes_whole() -> None:
    (answer,) = answers(lambda: "x" * 500_000)
    assert isinstance(answer, bytes)
    assert len(msgspec.json.decode(answer)) == 500_000


def test_an_answer_without_end_is_cut() -> None:
    assert answers(lambda: "x" * 5_000_000) == [Failure("an answer without end")]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (EngineError("the driver refuses.", "Reboot."), "the driver refuses."),
        (ValueError("of a parser"), "ValueError: of a parser"),
        (MemoryError(), "MemoryError"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_whatever_is_raised_is_told(error: BaseException, why: str) -> None:
    assert answers(fails(error)) == [Failure(why)]


def test_a_crash_is_told_and_harms_no_other() -> None:
    def crash() -> object:
        faulthandler.disable()  # pytest's, which would print it
        return ctypes.string_at(0)

    assert answers(crash, lambda: 1) == [Failure("its process was ended by SIGSEGV", "ended"), b"1"]


def test_a_process_that_just_ends_is_told() -> None:
    assert answers(lambda: os._exit(0)) == [Failure("its process ended without an answer", "ended")]


def test_a_hang_ends_at_its_limit_and_its_process_with_it() -> None:
    began_s = time.monotonic()
    with Apart([Work(lambda: time.sleep(60), 0.2), Work(lambda: os.getpid(), 20)]) as apart:
        hung, pid = apart.answers()
    assert hung == Failure("no answer in 0.2 s", "late")
    assert pid != b""
    assert time.monotonic() - began_s < 30
    with pytest.raises(ChildProcessError):  # none is left
        os.waitpid(-1, os.WNOHANG)


def test_a_hang_that_holds_python_s_lock_ends_too() -> None:
    assert answers(lambda: ctypes.PyDLL(None).sleep(60), limit_s=0.2) == [
        Failure("no answer in 0.2 s", "late")
    ]


def test_leaving_early_ends_all() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            answers(lambda: time.sleep(60), lambda: time.sleep(60))
    finally:
        signal.signal(signal.SIGALRM, previous)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_check_prints_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    answers(lambda: os.system("echo a library's own words; echo more >&2"))
    assert capfd.readouterr() == ("", "")


def test_a_check_that_fails_is_a_finding_and_the_others_are_made(tmp_path: Path) -> None:
    asked = [
        Check("clocks", "GPU clock", fails(OSError(5, "Input/output error"))),  # type: ignore[arg-type]
        Check("disk", "disk", lambda: Looked((Finding("disk", "disk", "4 GiB"),))),
    ]
    diagnosis = run_checks(Patient(), asked)
    assert [finding.verdict for finding in diagnosis.findings] == ["unknown", "ok"]
    assert diagnosis.findings[0].found == "could not be told: OSError: [Errno 5] Input/output error"


@pytest.mark.parametrize(
    ("work", "verdict", "words"),
    [
        (dies, "stops", "the engine crashed: its process was ended by SIGKILL"),
        (lambda folder: time.sleep(60), "unknown", "could not be told: no answer in 0.5 s"),
        (fails_with_folder, "unknown", "could not be told: OSError"),
    ],
)  # fmt: skip
def test_an_engine_that_crashes_on_the_samples_stops_and_a_slow_one_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, work: Callable[[Path], object], verdict: str, words: str
) -> None:
    monkeypatch.setattr("vla_edge.export.doctor.checks.samples.check_samples", work)
    found = run_samples(Diagnosis(Patient(tmp_path), (), ()), tmp_path, time_limit_s=0.5)
    (finding,) = found.findings
    assert (finding.id, finding.verdict) == ("samples", verdict)
    assert finding.found.startswith(words)


def test_an_interrupt_in_the_moment_of_a_fork_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, begun = os.fork, []

    def fork_and_interrupt() -> int:
        pid = fork()
        if pid:
            begun.append(pid)
            signal.raise_signal(signal.SIGINT)
        return pid

    monkeypatch.setattr("os.fork", fork_and_interrupt)
    with pytest.raises(KeyboardInterrupt), Apart([Work(lambda: time.sleep(60), 60)] * 2):
        pytest.fail("it went on")
    assert len(begun) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)
