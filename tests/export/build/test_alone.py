"""One build of a bundle at a time; and no checked plan is lost for one that cannot be checked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.errors import InputError, VlaError
from vla_edge.runtime.files.staging import claimed

# A build that stops for good when its first phase begins, and says so.
_STUCK = """
import sys, time
from pathlib import Path
from plan_builds import ADA
from vla_edge.export.build.build import build_plan
from vla_edge.export.build.progress import Silent
from vla_edge.runtime.bundle.bundle import Bundle
class Stuck(Silent):
    def start(self, *arguments):
        print(flush=True)
        time.sleep(600)
build_plan(Bundle.open(Path(sys.argv[1])), ADA, Stuck())
"""


def test_of_two_builds_at_once_the_second_is_refused_and_a_killed_one_blocks_nobody(bundle: Bundle) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STUCK, str(bundle.folder)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for work in (build_plan, verify_existing):
            with pytest.raises(VlaError, match=rf"another vla-build, .*is at work on {bundle.folder}"):
                work(bundle, replace(ADA, parts=2))
        other.kill()
    assert build_plan(bundle, ADA).fresh
    assert len(left_in(bundle)) == 2


def test_builds_of_two_bundles_do_not_meet(bundle: Bundle) -> None:
    with claimed(bundle.folder.parent):  # as a deploy into that folder has it
        assert build_plan(bundle, ADA).fresh


def test_a_checked_plan_is_not_lost_for_an_unchecked_one(
    bundle: Bundle, with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    path = build_plan(bundle, ADA).path
    monkeypatch.undo()  # the GPU is gone
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"was checked .* cannot be, and would replace it") as caught:
        build_plan(bundle, replace(ADA, parts=2))
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    assert read_record(path, bundle.folder).verification.passed
    assert not build_plan(bundle, ADA).fresh
    assert build_plan(bundle, replace(ADA, force=True)).record.verification.passed is None


def test_a_checked_plan_that_is_damaged_is_replaced(
    bundle: Bundle, with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    path = build_plan(bundle, ADA).path
    monkeypatch.undo()  # the GPU is gone
    path.write_bytes(path.read_bytes()[:-1])
    assert build_plan(bundle, ADA).fresh
