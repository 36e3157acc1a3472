"""Builds that are killed at their n-th step in the file system: `python killed_builds.py BUNDLE SEED KILLS`

Each is a fork of this process, in which everything slow is imported already; it builds the bundle's plan in another
number of parts than is there, by TensorRT-RTX, in a process that is a fork, too, and not a new one of Python: that is
half of the time, and how it is started is tested elsewhere. Every second time its builder is killed with it, else the
kernel must end that. After each kill: is the plan in use whole, one of the two that it may be? Does nothing of the
builder live on? After some the same is built without a kill, and nothing may be left of the dead. Prints a JSON object.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import killed_deploys
import tensorrt_rtx  # noqa: F401 - or every fork would import it
from killed_deploys import leftovers
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.process import child, memory_watch, parent
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.session import nothing
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import PlanRecord

# What a process asks of the system before it is done; while its builder is at work it reads that one's memory.
_STEPS = ("open", "os.", "shutil.", "subprocess.")
_OFTEN_S = 0.005  # between two readings: more moments at which a builder is at work
_KILLS_IN_A_ROW = 5
_MARK = f"kill-{os.getpid()}"  # the name of all that a fork starts
_PR_SET_NAME = 15  # prctl(2)


class ForkedBuilder:
    """The process that builds, as `subprocess.Popen` has it for who waits: the same code, with its imports done."""

    def __init__(self, pipe: int) -> None:
        sys.audit("subprocess.Popen", "", [], None, None)  # a step as any other
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            with suppress(OSError):  # whoever comes first makes it the first of a group
                os.setpgid(self.pid, self.pid)
            return
        try:
            os.setpgid(0, 0)
            sys.argv = ["", str(pipe)]
            child.main()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def poll(self) -> int | None:
        return self.wait(os.WNOHANG)

    def wait(self, options: int = 0) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def in_a_fork(
    work: Callable[[], None], die_at: int | None = None, with_builder: bool = False
) -> tuple[int, int]:
    """Its exit status, and how many steps it took; its builder dies with it, or by the kernel."""

    def marked() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, _MARK.encode())
        work()

    return killed_deploys.in_a_fork(marked, die_at, _STEPS, _kill_builders if with_builder else nothing)


def _kill_builders() -> None:
    for pid in builders():
        os.kill(pid, signal.SIGKILL)


def builders() -> list[int]:
    """Processes that forks of this one started, and that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, state = (folder / "stat").read_text().partition(") ")
        except OSError:  # gone, or another user's
            continue
        if name.endswith(f"({_MARK}") and state[0] != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def all_gone() -> bool:
    """The kernel's signal takes a moment."""
    ends_s = time.monotonic() + 20
    while builders() and time.monotonic() < ends_s:
        time.sleep(0.01)
    return not builders()


def build(folder: Path, parts: int) -> Callable[[], None]:
    def work() -> None:
        build_plan(Bundle.open(folder), replace(ADA, parts=parts))

    return work


def whole(folder: Path) -> PlanRecord | None:
    """The record of the plan in use, after every byte of its files was checked; None where there is no plan."""
    found = [path for path in (folder / "plans").glob("*.plan.json") if not path.name.startswith(".")]
    if not found:
        return None
    path = found[0].with_name(found[0].name.removesuffix(".json"))
    record = read_record(path, folder)
    for part in record.parts:
        with open_part(PlanFile(path, record, folder), part):
            pass
    return record


def main(folder: Path, seed: int, kills: int) -> None:
    parent.INTERVAL_S = memory_watch.INTERVAL_S = _OFTEN_S  # type: ignore[attr-defined]
    parent._spawn = lambda builder, pipe: ForkedBuilder(pipe)  # type: ignore[assignment,return-value]
    rng = random.Random(seed)
    findings: list[str] = []
    moments: list[int] = []
    with_leftovers = switched = killed = 0
    bundle = Bundle.open(folder)
    steps = max(in_a_fork(build(folder, parts))[1] for parts in (2, 3))
    while killed < kills:
        before = whole(folder)
        parts = 2 if before is not None and len(before.parts) == 3 else 3
        moment = rng.randrange(1, steps + 1)
        where = f"kill {killed} at step {moment}"
        status, _ = in_a_fork(build(folder, parts), moment, with_builder=bool(killed % 2))
        if status == signal.SIGKILL:
            killed += 1
            moments.append(moment)
        elif status:
            findings.append(f"{where}: the build failed by itself")
        if not all_gone():
            findings.append(f"{where}: the builder lives on")
        with_leftovers += bool(leftovers(folder))
        now = whole(folder)
        if now is None or (now != before and len(now.parts) != parts):
            findings.append(f"{where}: the plan in use is {now}")
        switched += now != before
        if killed % _KILLS_IN_A_ROW:
            continue  # the next is killed, too, on what this one left
        now = whole(folder)
        parts = 2 if now is not None and len(now.parts) == 3 else 3
        status, _ = in_a_fork(build(folder, parts))
        after = whole(folder)
        if status or after is None or len(after.parts) != parts:
            findings.append(f"{where}: the next build failed")
        elif left_in(bundle) != sorted(
            [*(part.file for part in after.parts), record_path(Path(after.plan)).name]
        ):
            findings.append(f"{where}: left {left_in(bundle)}")
    told = {"findings": findings, "moments": moments, "with_leftovers": with_leftovers, "switched": switched}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
