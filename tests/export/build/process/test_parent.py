"""A process that builds: what it tells reaches the user, and every end of it or of its parent leaves nothing."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plan_builds import ADA

from vla_edge.export.build.process.memory_watch import MemoryWatch
from vla_edge.export.build.process.messages import Done, Job, decode_job, decode_message, encode
from vla_edge.export.build.process.parent import BUILDER, build_apart
from vla_edge.export.build.progress import Silent
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError, EngineError, InputError, ResourceError
from vla_edge.runtime.process.interrupts import Interrupted

# The real process, in which a line of Python stands for TensorRT; `told` is what it tells its parent by.
PLANTED = """
import os, pathlib, signal, sys, time, vla_edge.export.build.process.child as child
def build(job, told):
    {line}
child._build = build
child.main()
"""


@pytest.fixture
def job(bundle: Bundle) -> Job:
    return Job(
        model=bundle.model_path,
        plan=bundle.folder / "a.plan",
        options=ADA,
        timing_cache=None,
        log_level=logging.INFO,
        parent=os.getpid(),
    )


def planted(line: str) -> tuple[str, ...]:
    return (sys.executable, "-c", PLANTED.format(line=line))


def built_by(line: str, job: Job, progress: Any = None) -> Done:
    return build_apart(job, MemoryWatch(None, False), progress or Silent(), planted(line))


def wait_until(true: Callable[[], object]) -> None:
    ends_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Ended, also where nobody has waited for it yet, as in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_plan_is_written_and_its_memory_seen(job: Job) -> None:
    watch = MemoryWatch(None, False)
    done = build_apart(job, watch, Silent())
    assert job.plan.stat().st_size > 1000
    assert done.contents.source == "plan"
    assert done.timing_cache == "none"
    assert watch.peaks().host > 20
    assert (watch.peaks().gpu, watch.peaks().together) == (None, None)


def test_taps_are_returned_by_the_plan_too(job: Job) -> None:
    with pytest.raises(InputError, match="The network has no tensor nowhere"):
        build_apart(Job(**{**as_dict(job), "taps": ("nowhere",)}), MemoryWatch(None, False), Silent())


def as_dict(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__struct_fields__}


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("raise MemoryError('no more')", ResourceError, "not enough memory: no more"),
        ("raise OSError(28, 'No space left on device', '/a/disk')", ResourceError, "/a/disk is full"),
        (
            "from vla_edge.runtime.errors import BundleError; raise BundleError('bad file.', 'Copy it.')",
            BundleError,
            "bad file",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", ResourceError, "killed by SIGKILL .* memory very likely"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", EngineError, "was ended by SIGSEGV and gave no answer"),
        ("os._exit(3)", EngineError, "ended with exit code 3 and gave no answer"),
        ("raise ZeroDivisionError('ours')", EngineError, "ended with exit code 1"),
        ("told._pipe.send_bytes(b'what'); time.sleep(60)", EngineError, "cannot be read"),
    ],
)
def test_an_end_without_a_plan_is_an_error_in_words(
    job: Job, line: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        built_by(line, job)
    assert type(caught.value) is error


def test_what_helps_is_said_where_memory_ran_out(job: Job) -> None:
    with pytest.raises(ResourceError) as caught:
        built_by("os.kill(os.getpid(), signal.SIGKILL)", job)
    assert str(job.model) in caught.value.problem
    for words in ("stop other programs", "add swap"):
        assert words in caught.value.hint


def test_a_mistake_of_ours_has_its_traceback_on_stderr(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError):
        built_by("print('on stdout', flush=True); raise ZeroDivisionError('ours')", job)
    out, err = capfd.readouterr()
    assert out == ""
    assert "on stdout" in err
    assert "ZeroDivisionError: ours" in err


def test_logs_arrive_under_their_own_names(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    lines = """
    import logging
    logging.getLogger('vla_edge.tensorrt').warning('a %s warning', 'percent')
    logging.getLogger('vla_edge.tensorrt').debug('not asked for')
    os._exit(0)"""
    with caplog.at_level(logging.INFO, "vla_edge"), pytest.raises(EngineError):
        built_by(lines, job)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("vla_edge.tensorrt", "a percent warning")
    ]


def test_memory_is_given_back_by_the_allocator_unless_the_user_chose(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    line = f"pathlib.Path({str(seen)!r}).write_text(str([os.environ.get(n) for n in ('MALLOC_ARENA_MAX', "
    line += "'MALLOC_TRIM_THRESHOLD_')])); os._exit(0)"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    with pytest.raises(EngineError):
        built_by(line, job)
    assert seen.read_text() == "['4', '131072']"


def test_nothing_is_imported_from_the_folder_that_the_user_is_in(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("numpy", "msgspec", "tensorrt_rtx", "logging"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(7)")
    monkeypatch.chdir(tmp_path)
    build_apart(job, MemoryWatch(None, False), Silent())
    assert job.plan.is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_process_and_what_it_started(
    job: Job, tmp_path: Path, number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    lines = f"""
    other = os.fork()
    if other:
        pathlib.Path({str(pids)!r}).write_text(f"{{os.getpid()}} {{other}}")
        told.start('deaf', None, 1)
    signal.signal({int(number)}, signal.SIG_IGN)
    time.sleep(60)"""

    class Interrupting(Silent):
        def start(self, phase: str, parent: str | None, steps: int) -> None:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as ended:
        built_by(lines, job, Interrupting())
    assert ended.value.exit_code == 128 + number
    own, other = map(int, pids.read_text().split())
    assert is_gone(own)
    wait_until(lambda: is_gone(other))


def test_a_killed_parent_takes_the_process_with_it(job: Job, tmp_path: Path) -> None:
    """The kernel ends it, though it holds Python's lock and reads no pipe."""
    pid = tmp_path / "pid"
    write = f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    line = f"{write}; import ctypes; ctypes.PyDLL(None).sleep(60)"
    lines = f"""
import logging, os, sys
from pathlib import Path
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.process.memory_watch import MemoryWatch
from vla_edge.export.build.process.messages import Job
from vla_edge.export.build.process.parent import build_apart
from vla_edge.export.build.progress import Silent
job = Job(model=Path("m"), plan=Path("p"), options=BuildOptions(), timing_cache=None, log_level=20, parent=os.getpid())
build_apart(job, MemoryWatch(None, False), Silent(), {planted(line)!r})
"""
    with subprocess.Popen([sys.executable, "-c", lines]) as parent:
        wait_until(lambda: pid.is_file() and pid.read_text())
        parent.kill()
    wait_until(lambda: is_gone(int(pid.read_text())))


def test_a_parent_that_dies_before_it_said_what_to_build_is_no_traceback() -> None:
    ours, theirs = Pipe()
    with theirs:
        child = subprocess.Popen(
            [*BUILDER, str(theirs.fileno())], pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE
        )
    ours.close()
    _, said = child.communicate(timeout=60)
    assert said == b""
    assert child.returncode == 1


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf8_reach_the_process_and_come_back(
    job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / NOT_UTF8 / "model.onnx"
    model.parent.mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(job.model.with_name(name), model.with_name(name))
    plan = model.with_name("a.plan")
    other = Job(**{**as_dict(job), "model": model, "plan": plan})
    assert decode_job(encode(other)) == other
    assert build_apart(other, MemoryWatch(None, False), Silent()).contents.source == "plan"
    assert plan.is_file()
    assert capfd.readouterr().err == ""  # TensorRT logs names, too
    line = "from vla_edge.runtime.errors import BundleError; raise BundleError(f'{job.model} is bad.', 'Copy it.')"
    with pytest.raises(BundleError, match="is bad"):
        built_by(line, other)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"[" * 100_000, b'{"type": "what"}', b"[]"])
def test_what_is_no_message_is_told_as_that(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_message(data)


def test_a_killed_timing_cache_leaves_nothing(job: Job, tmp_path: Path) -> None:
    cache = tmp_path / "kept" / "kernels.timing"
    cache.parent.mkdir()
    lines = """
    from vla_edge.runtime.files.staging import new_file
    held = new_file(job.timing_cache)
    os.kill(os.getpid(), signal.SIGKILL)"""
    with pytest.raises(ResourceError):
        built_by(lines, Job(**{**as_dict(job), "timing_cache": cache}))
    assert list(cache.parent.iterdir()) == []
