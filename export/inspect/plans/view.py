"""How plans look in a bundle's tree: what each is for, whether it was checked, its parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.tree import Tree

from vla_edge.export.build import view as build_view
from vla_edge.export.screen.screen import one_line, plain_table, size
from vla_edge.runtime.engines.registry import ENGINES

from .lines import PartLine, PlanLine

_FOLDERS = re.compile(r"(?<!\S)\S*/plans/")  # before a file's name


def add_plans(tree: Tree, plans: Sequence[PlanLine]) -> None:
    """A branch for each plan; one in parts has a table of them."""
    none = "[bold]plans[/]: none; vla-build makes one on the robot"
    branch = tree.add(f"[bold]plans[/]: {len(plans)}" if plans else none)
    for line in plans:
        shown = branch.add(_plan(line))
        if len(line.parts) > 1:
            shown.add(_parts(line.parts))


def _plan(line: PlanLine) -> str:
    """What it was built for, whether it was checked; or why it cannot be used."""
    if line.record is None or line.problem:
        return f"[red]{one_line(line.name)}: not usable: {one_line(_short(line.problem))}[/]"
    machine = line.record.machine
    word = "[red]rejected[/] " if line.rejected else ""
    name = f"{ENGINES[machine.backend].label} {one_line(machine.version)}"
    parts = f" in {len(line.parts)} parts" if len(line.parts) > 1 else ""
    whose = f"\n{told}" if len(line.parts) == 1 and (told := _told(line.parts[0])) else ""
    return (
        f"{word}{name}, SM {build_view.dotted(machine.sm)}, {one_line(machine.gpu or 'built without its GPU')}, "
        f"{size(line.record.size_bytes)}{parts}{', SHA-256 right' if line.hashed else ''}\n"
        f"{build_view.verdict(line.record.verification)}{whose}"
    )


def _short(problem: str) -> str:
    """A problem with the names of files alone: the folder stands above."""
    return _FOLDERS.sub("", problem)


def _parts(parts: Sequence[PartLine]) -> Table:
    """Each part: its size, the memory of its build where it was measured, and who else has it."""
    table = plain_table(("part", "size", "build took", ""), right=("size", "build took"))
    for line in parts:
        cells = (one_line(line.record.name), size(line.record.size_bytes), _memory(line), _told(line))
        table.add_row(*cells, style="red" if line.problem else "")
    return table


def _memory(line: PartLine) -> str:
    """The largest sum of host and GPU, or the host's alone where that was all that was measured."""
    build = line.record.build
    if build.found_in is not None:
        return "nothing"
    return f"{build.peak_mib if build.peak_mib is not None else build.peak_host_mib} MiB"


def _told(line: PartLine) -> str:
    if line.problem:
        return one_line(_short(line.problem).removeprefix(f"{line.record.file} "))
    found = line.record.build.found_in
    told = [f"taken from {found}"] if found is not None else []
    told += [f"one file with {', '.join(line.shared)}"] if line.shared else []
    told += [f"a copy in {', '.join(line.copies)}"] if line.copies else []
    return one_line("; ".join(told))
