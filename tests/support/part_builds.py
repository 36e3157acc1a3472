"""Builds in parts that tests make, and what they look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plan_builds import ADA, left_in

from vla_edge.export.build.parts import making
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import find_plan, open_part
from vla_edge.runtime.engines.tensorrt.record import Machine, PlanRecord

MIB = 1 << 20
FOUR = replace(ADA, parts=4)


def inodes(bundle: Bundle) -> set[int]:
    return {path.stat().st_ino for path in (bundle.folder / "plans").glob("*.part")}


def check_files(bundle: Bundle, record: PlanRecord) -> None:
    """The folder holds what the record names, whole, and nothing else."""
    files = [part.file for part in record.parts]
    assert left_in(bundle) == sorted([*files, f"{record.plan}.json"])
    version, sm = record.machine.version, record.machine.sm
    plan = find_plan(bundle, Machine(backend="tensorrt-rtx", version=version, sm=sm, gpu=None, driver=None))
    for part in plan.record.parts:
        with open_part(plan, part):
            pass


def no_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of parts that are built from now on."""
    built, inner = list[str](), making.make

    def noted(part: Any, *arguments: Any) -> Any:
        built.append(part.name)
        return inner(part, *arguments)

    monkeypatch.setattr("vla_edge.export.build.parts.making.make", noted)
    return built
