"""A diagnosis for people: the answer first, then a table whose rows say what to do; and for programs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from vla_edge.export.screen.screen import escape, prose, result_console
from vla_edge.runtime.printable import one_line

from .examination import Diagnosis
from .finding import VERDICTS, Finding, Verdict

_NAMED = 3  # in the answer, of the things that stop a policy
_CLAUSE_END = re.compile(r"[:;,] ")
_SCHEMA = 1  # of the JSON; a key is added without a new number, never renamed or dropped


@dataclass(frozen=True)
class _Look:
    word: str
    style: str


_LOOKS: dict[Verdict, _Look] = {
    "ok": _Look("ok", "green"),
    "unknown": _Look("unknown", "cyan"),
    "warning": _Look("warning", "yellow"),
    "stops": _Look("STOPS", "bold red"),
}


def answer(diagnosis: Diagnosis) -> str:
    """Such as "This machine can run pure-fp16: nothing stops it; 2 warnings."."""
    what = diagnosis.patient.name or "a policy"
    stops, warnings, unknown = (diagnosis.of(verdict) for verdict in ("stops", "warning", "unknown"))
    rest = [_count(len(warnings), "warning")] if warnings else []
    rest += [f"{len(unknown)} could not be told"] if unknown else []
    after = f"; {', '.join(rest)}" if rest else ""
    if not stops:
        known = ", as far as could be told" if unknown else ""
        return f"This machine can run {what}{known}: nothing stops it{after}."
    things = "1 thing stops it" if len(stops) == 1 else f"{len(stops)} things stop it"
    return f"This machine cannot run {what}: {things}: {'; '.join(map(_brief, stops[:_NAMED]))}{after}."


def _brief(finding: Finding) -> str:
    """Such as "TensorRT (8.6.2 is too old)"; the table has all of it."""
    return f"{finding.what} ({_CLAUSE_END.split(finding.found, maxsplit=1)[0].rstrip('.')})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """The answer, and a row for each finding, the worst first."""
    console = result_console()
    style = "bold red" if diagnosis.of("stops") else "bold"
    prose(console, escape(answer(diagnosis)), style)
    console.print()
    worst_first = sorted(diagnosis.findings, key=lambda finding: -VERDICTS.index(finding.verdict))
    console.print(_table(worst_first))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found, and -> what to do", overflow="fold")
    for finding in findings:
        look = _LOOKS[finding.verdict]
        told = Text(one_line(finding.found))
        if finding.todo:
            told.append(f"\n-> {one_line(finding.todo)}", "dim" if finding.verdict == "ok" else "bold")
        table.add_row(Text(look.word, look.style), Text(finding.what), told)
    return table


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """With stable keys."""
    patient = diagnosis.patient
    return {
        "schema": _SCHEMA,
        "answer": answer(diagnosis),
        "can_run": not diagnosis.of("stops"),
        "stops": len(diagnosis.of("stops")),
        "warnings": len(diagnosis.of("warning")),
        "unknown": len(diagnosis.of("unknown")),
        "bundle": str(patient.folder) if patient.folder else None,
        "findings": [
            {
                "id": finding.id,
                "what": finding.what,
                "found": finding.found,
                "verdict": finding.verdict,
                "todo": finding.todo,
            }
            for finding in diagnosis.findings
        ],
        "leftovers": [
            {
                "path": each.path,
                "size_bytes": each.size_bytes,
                "removed": each.removed,
                "earlier_bundle": each.earlier,
            }
            for each in diagnosis.leftovers
        ],
    }
