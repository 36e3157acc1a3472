"""A backend in a process of its own: what goes wrong there becomes a reason here."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from vla_edge.bench.harness.process import run_job
from vla_edge.bench.measure.jobs import Failed, Job, Measured, Rated
from vla_edge.bench.report.types import Rates
from vla_edge.bench.watch.memory import MemoryWatch

LONG_S = 60.0


def asking(job: Job, **changes: Any) -> Job:
    return msgspec.structs.replace(job, options=msgspec.structs.replace(job.options, **changes))


@pytest.fixture
def run(job: Job, planted: Callable[[str], tuple[str, ...]]) -> Callable[..., Measured | Failed]:
    def run_planted(fault: str, time_limit_s: float = LONG_S) -> Measured | Failed:
        limited = asking(job, time_limit_s=time_limit_s)
        return run_job(limited, Measured, worker=planted(fault))

    return run_planted


def reason_of(result: Measured | Failed) -> str:
    assert isinstance(result, Failed)
    return result.reason


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a killed process whose parent is gone waits to be reaped by whoever adopted it
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_an_engine_is_measured_in_every_phase_with_its_memory(job: Job) -> None:
    phases: list[str] = []
    watch = MemoryWatch(None)
    measured = run_job(job, Measured, watches=(watch.sample,), on_phase=phases.append)
    assert isinstance(measured, Measured)
    assert phases == ["import", "load", "first call", "warm-up", "measure", "parity", "act"]
    assert len(measured.row.samples.step_ms) == len(measured.row.samples.act_ms) == 30
    assert measured.row.samples.device_ms == ()
    assert (measured.row.parity.samples, measured.row.parity.finite) == (10, True)
    # first call, warm-up, samples; `act` runs on another frame
    assert measured.row.parity.calls == 1 + 3 + 30
    cold = measured.row.cold_start
    assert min(cold.interpreter_s, cold.import_s, cold.load_s, cold.first_call_s) > 0
    memory = watch.summary(measured.host_memory)
    assert memory.host_anonymous_peak_mib > 10
    assert memory.host_peak_mib >= memory.host_anonymous_peak_mib


def test_every_golden_sample_is_checked_however_few_runs_there_are(job: Job) -> None:
    short = asking(job, runs=2, warmup=0)
    measured = run_job(short, Measured)
    assert isinstance(measured, Measured)
    assert (measured.row.parity.samples, measured.row.parity.calls, len(measured.row.samples.step_ms)) == (
        10,
        10,
        2,
    )


def test_a_crash_is_a_reason_with_exit_code_phase_and_last_words(run) -> None:
    reason = reason_of(run("crash"))
    assert reason == (
        "ended with exit code 3 in phase 'first call' without a result; last line printed: out of luck"
    )


def test_a_segmentation_fault_is_a_reason(run) -> None:
    assert reason_of(run("segfault")) == "killed by SIGSEGV in phase 'first call'"


@pytest.mark.parametrize(("number", "name"), [(34, "SIGRTMIN"), (40, "signal 40")])
def test_a_kill_by_any_signal_is_a_reason(job: Job, number: int, name: str) -> None:
    script = f"import os; os.kill(os.getpid(), {number})"
    outcome = run_job(job, Measured, worker=(sys.executable, "-c", script))
    assert reason_of(outcome).startswith(f"killed by {name} in phase 'start'")


def test_the_thread_pools_are_fixed_and_gpus_hidden_before_any_library_reads_them(job: Job) -> None:
    script = "import os; raise SystemExit(repr([os.environ[n] for n in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')]))"
    outcome = run_job(job, Measured, worker=(sys.executable, "-c", script))
    assert reason_of(outcome).endswith("last line printed: ['1', '']")


def test_an_answer_of_another_kind_is_none(job: Job) -> None:
    rated = Rated(
        Rates(
            device="cpu",
            library="",
            copy_gb_s=1,
            matmul_fp32_tflops=1,
            matmul_tf32_tflops=None,
            matmul_fp16_tflops=None,
        )
    )
    script = (
        "import sys; from multiprocessing.connection import Connection;"
        f"Connection(int(sys.argv[-1])).send_bytes({msgspec.json.encode(rated)!r})"
    )
    outcome = run_job(job, Measured, worker=(sys.executable, "-c", script))
    assert reason_of(outcome) == "sent an answer to another job"


def test_a_hang_is_killed_at_the_time_limit(run) -> None:
    start = time.monotonic()
    reason = reason_of(run("hang", time_limit_s=4.0))
    assert reason == "time limit of 4 s reached in phase 'first call'"
    assert time.monotonic() - start < 10


def test_an_exception_is_a_reason_in_its_own_words(run) -> None:
    assert reason_of(run("fail")) == "ValueError: no such tensor: actions"


def test_children_of_a_crashed_worker_do_not_outlive_it(run) -> None:
    reason = reason_of(run("orphan"))
    assert "exit code 4" in reason
    child = int(re.search(r"child (\d+)", reason)[1])
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)


def test_what_libraries_print_is_not_taken_for_an_answer(run) -> None:
    assert isinstance(run("chatter"), Measured)


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        ("dying_profile", "no profile: ended with exit code 5 in phase 'profile'"),
        ("failing_profile", "no profile: RuntimeError: no counters"),
    ],
)
def test_a_profile_that_fails_costs_no_figure(job: Job, planted, fault: str, note: str) -> None:
    profiled = asking(job, quick=False)
    measured = run_job(profiled, Measured, worker=planted(fault))
    assert isinstance(measured, Measured)
    assert (len(measured.row.samples.step_ms), measured.row.profile) == (30, None)
    assert measured.row.notes[-1].startswith(note)


def test_a_profile_that_is_there_comes_after_the_figures(job: Job) -> None:
    profiled = asking(job, quick=False)
    measured = run_job(profiled, Measured)
    assert isinstance(measured, Measured)
    assert measured.row.profile is not None


def test_frames_of_nan_and_a_paced_loop_of_nan_are_answers(job: Job, planted) -> None:
    """JSON has no NaN, and a policy would refuse to act: neither may cost the row."""
    watched = asking(job, images=("frame.png",), rate_hz=200.0, seconds=0.05)
    for fault in ("nan_frames", "nan"):
        worker = planted(fault)
        asked = watched if fault == "nan_frames" else asking(watched, images=())
        measured = run_job(asked, Measured, worker=worker)
        assert isinstance(measured, Measured)
        assert measured.row.paced is not None
        assert measured.row.parity.finite == (fault == "nan_frames")
        assert measured.frame_actions == ((((None, 0.1),),) if fault == "nan_frames" else ())


def test_a_frame_that_cannot_be_read_is_a_note(job: Job, tmp_path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    asked = asking(job, images=(str(tmp_path / "cut.png"),))
    measured = run_job(asked, Measured)
    assert isinstance(measured, Measured)
    assert "the frames gave no actions" in measured.row.notes[-1]
    assert "cut.png" in measured.row.notes[-1]


def test_a_worker_that_cannot_start_is_a_reason(job: Job) -> None:
    outcome = run_job(job, Measured, worker=("false",))
    assert reason_of(outcome) == "ended with exit code 1 in phase 'start' without a result"


def test_a_damaged_bundle_is_a_reason_in_the_bundle_s_words(job: Job, tmp_path) -> None:
    empty = msgspec.structs.replace(job, bundle=str(tmp_path))
    outcome = run_job(empty, Measured)
    assert "is not a bundle: it has no manifest.json" in reason_of(outcome)
