"""Builds that are killed at their n-th step in the file system: `python killed_builds.py BUNDLE SEED KILLS`

Each is a fork of this process, in which everything slow is imported already; it builds the bundle's plan in another
number of parts than is there, by TensorRT-RTX. Every second time its builder is killed with it, else the kernel must
end that. After each kill: is the plan in use whole, one of the two that it may be? Does nothing of the builder live on?
After some the same is built without a kill, and nothing may be left of the dead. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import tensorrt_rtx  # noqa: F401 - or every fork would import it
from killed_deploys import leftovers
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import PlanRecord

# What a process asks of the system before it is done; while its builder is at work it reads that one's memory.
_STEPS = ("open", "os.", "shutil.", "subprocess.")
_KILLS_IN_A_ROW = 5
_MARK = "VLA_EDGE_KILLED_BUILD"  # in the environment of all that a fork starts


def in_a_fork(
    work: Callable[[], None], die_at: int | None = None, with_builder: bool = False
) -> tuple[int, int]:
    """Its exit status, and how many steps it took."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.environ[_MARK] = "1"
        count = 0

        def step(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event.startswith(_STEPS):
                count += 1
                if count == die_at:
                    for pid in builders() if with_builder else ():
                        os.kill(pid, signal.SIGKILL)
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)
        try:
            work()
            os.write(writer, str(count).encode())
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        return status, int(told.read() or 0)


def builders() -> list[int]:
    """Processes that forks of this one started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{_MARK}=1".encode() in (folder / "environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        if marked:
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
