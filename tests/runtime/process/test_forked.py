"""A forked child refuses its parent's engine, never frees it, and ends in peace; the parent goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

START = """
import multiprocessing, os, sys, threading
import numpy as np
from vla_edge.runtime import Bundle, Controller, EngineError, Policy, open_session
from vla_edge.runtime.batch import BatchPolicy

folder = sys.argv[1]
frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)

def in_child(work):
    child = os.fork()
    if child == 0:
        work()
        sys.exit(0)
    return os.waitpid(child, 0)[1]

def refused(work):
    try:
        work()
    except EngineError as error:
        assert "was forked from that" in error.problem and "spawn" in error.hint, error
    else:
        sys.exit("not refused")
"""

CASES = {
    "does nothing": "in_child(lambda: None)",
    "acts": "in_child(lambda: refused(lambda: policy.act(frame)))",
    "warms up": "in_child(lambda: refused(policy.warmup))",
    "resets": "in_child(lambda: refused(policy.reset))",
    "closes": "in_child(policy.close)",
    "leaves the context": "in_child(lambda: policy.__exit__(None, None, None))",
    "forgets it": "in_child(lambda: globals().pop('policy'))",
    "runs the session": "in_child(lambda: refused(policy.session.run))",
    "closes the session": "in_child(policy.session.close)",
    "forks again": "in_child(lambda: sys.exit(in_child(policy.close)))",
    "loads its own": "in_child(lambda: Policy.load(folder, threads=4).act(frame))",
    "is stopped": "in_child(lambda: sys.exit(not Controller(policy).step(frame).stopped))",
}


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + script, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_no_child_touches_its_parents_engine(pristine_bundle: Path) -> None:
    lines = [f"({name!r}, lambda: {call})" for name, call in CASES.items()]
    script = f"""
policy = Policy.load(folder, threads=4)
wanted = policy.act(frame).values
for name, case in [{", ".join(lines)}]:
    print(name, case(), policy.act(frame).values == wanted, flush=True)
policy.close()
"""
    done = run(script, pristine_bundle)
    assert done.stdout.splitlines() == [f"{name} 0 True" for name in CASES], done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_no_child_touches_the_engine_of_a_batch(make_bundle: Callable[..., Path]) -> None:
    script = """
policy = BatchPolicy.load(folder, threads=4)
wanted = policy.act([frame])[0].values
for case in (
    lambda: None,
    lambda: refused(lambda: policy.act([frame])),
    lambda: refused(policy.warmup),
    policy.close,
    lambda: policy.__exit__(None, None, None),
    lambda: globals().pop("policy"),
    lambda: BatchPolicy.load(folder, threads=4).act([frame]),
):
    print(in_child(case), policy.act([frame])[0].values == wanted, flush=True)
policy.close()
"""
    done = run(script, make_bundle(batch=2))
    assert done.stdout.splitlines() == ["0 True"] * 7, done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_child_of_multiprocessing_ends_in_peace(pristine_bundle: Path) -> None:
    script = """
def work(queue):
    refused(lambda: policy.act(frame))
    queue.put("done")

policy = Policy.load(folder, threads=4)
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=work, args=(queue,))
child.start()
assert queue.get(timeout=30) == "done"
child.join()
assert child.exitcode == 0
policy.act(frame)
"""
    done = run(script, pristine_bundle)
    assert done.returncode == 0, done.stderr


def test_a_session_without_a_policy_is_left_alone_too(pristine_bundle: Path) -> None:
    script = """
session = open_session(Bundle.open(folder), threads=4)
session.run()
assert in_child(session.close) == in_child(lambda: refused(session.run)) == in_child(lambda: None) == 0
session.run()
"""
    done = run(script, pristine_bundle)
    assert done.returncode == 0, done.stderr
