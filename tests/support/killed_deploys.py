"""Deploys that are killed at their n-th step in the file system: `python killed_deploys.py ROOT SEED KILLS FILE...`

Each is a fork of this process, in which everything slow is imported already. After each kill: is `current` a
whole bundle, one of those that it may be? Then the same file is deployed without a kill, and nothing may be left
of the dead. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime  # noqa: F401 - or every fork would import it

from vla_edge.export.deploy.deploy import DeployOptions, deploy
from vla_edge.export.packed.packed import open_packed
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.session import nothing

# What a process asks of the file system before it is done; reads are moments as well.
_STEPS = ("open", "os.", "shutil.")


def in_a_fork(
    work: Callable[[], None],
    die_at: int | None = None,
    counted: tuple[str, ...] = _STEPS,
    before_death: Callable[[], object] = nothing,
) -> tuple[int, int]:
    """Run in a fork that kills itself at a step.

    Args:
        work: of the fork.
        die_at: number of the step; None for none.
        counted: how the audit events begin that are steps.
        before_death: done right before.

    Returns:
        Its exit status, and how many steps it took.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        own, count = os.getpid(), 0

        def step(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event.startswith(counted) and os.getpid() == own:
                count += 1
                if count == die_at:
                    before_death()
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


def deployed(root: Path, file: Path, backend: str) -> Callable[[], None]:
    def work() -> None:
        with open_packed(file) as packed:
            deploy(packed, root, DeployOptions(backend, build=backend == "onnxruntime"))

    return work


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in root.rglob(".*")]


def main(root: Path, seed: int, kills: int, files: list[Path]) -> None:
    rng = random.Random(seed)
    findings: list[str] = []
    moments: list[int] = []
    with_leftovers = switched = 0
    running = ""
    for number in range(kills):
        file, backend = files[number % len(files)], ("onnxruntime", "none")[number % 10 > 1]
        with open_packed(file) as packed:
            new = packed.index.manifest_sha256
        measured = root.with_name("measured")
        if root.exists():
            shutil.copytree(root, measured, symlinks=True)
        _, steps = in_a_fork(deployed(measured, file, backend))
        shutil.rmtree(measured)
        moment = rng.randrange(1, steps + 1)
        status, _ = in_a_fork(deployed(root, file, backend), moment)
        moments.append(moment)
        if status not in (signal.SIGKILL, 0):
            findings.append(f"kill {number} at step {moment}: the deploy failed by itself")
        with_leftovers += bool(leftovers(root))
        if running or (root / "current").exists():
            current = Bundle.open(root / "current").manifest_sha256  # hashes everything
            if current not in (running, new):
                findings.append(f"kill {number} at step {moment}: current is {current[:12]}")
            switched += current == new
        status, _ = in_a_fork(deployed(root, file, backend))
        running = Bundle.open(root / "current").manifest_sha256
        if status or running != new:
            findings.append(f"after kill {number} at step {moment}: the next deploy failed")
        if left := leftovers(root):
            findings.append(f"after kill {number} at step {moment}: left {left}")
    told = {"findings": findings, "moments": moments, "with_leftovers": with_leftovers, "switched": switched}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), list(map(Path, sys.argv[4:])))
