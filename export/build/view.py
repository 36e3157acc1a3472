"""What `vla-build` prints about a plan: whether it was checked and how far it is off, then what it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vla_edge.export.screen import gates as gate_view
from vla_edge.export.screen.screen import escape, one_line, prose, result_console, say, size
from vla_edge.runtime.bundle.manifest import Gate, Manifest
from vla_edge.runtime.checks.gates import Judgement, judge
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER, backend_option, dotted
from vla_edge.runtime.engines.tensorrt.record import Check, PlanRecord, PlanVerification

if TYPE_CHECKING:
    from .build import BuildResult
    from .verify import StageMeasure

ACTION = "action"


def print_built(results: Sequence[BuildResult], bundle: Path) -> None:
    """The plans of one call, and what to do next.

    Args:
        results: in the order in which they were built.
        bundle: its folder, as the user wrote it.
    """
    console = result_console()
    for result in results:
        record = result.record
        prose(console, f"[bold]{verdict(record.verification)}[/]")
        path = escape(str(bundle / PLANS_FOLDER / result.path.name))
        say(console, f"{path}  {size(record.size_bytes)}{'' if result.fresh else ' (was there already)'}")
        for line in facts(record):
            prose(console, f"  {line}")
    for line in dict.fromkeys(next_step(result.record, bundle) for result in results):
        say(console, line)


def print_rejected(record: PlanRecord) -> None:
    """All gates of a plan that missed one; the error itself comes on stderr."""
    console = result_console()
    prose(console, f"[bold red]{verdict(record.verification)}[/]")
    console.print(gate_view.gate_table(judgements(record.verification)))


def print_stages(errors: Mapping[str, StageMeasure], manifest: Manifest) -> None:
    """The error of each stage against its gate in the manifest."""
    table = gate_view.gate_table(
        [
            judge(gate, error.of(gate.metric), manifest.action.unit)
            for gate in manifest.parity.gates
            if (error := errors.get(gate.stage))
        ]
    )
    result_console().print(table)


def verdict(verification: PlanVerification) -> str:
    """Such as "checked: action within 0.0049 m/s, gate 0.02 m/s, 4.1x room (10 samples)"."""
    word = {True: "checked", False: "REJECTED", None: "NOT checked"}[verification.passed]
    action = next((found for found in judgements(verification) if found.gate.stage == ACTION), None)
    if action is None:
        return f"{word}: {one_line(verification.note)}"
    figures = f"{gate_view.error(action)}, gate {gate_view.limit(action)}, {gate_view.room(action)}"
    samples = len(verification.samples)
    return f"{word}: action {'within ' if action.passed else ''}{figures} ({samples} samples)"


def judgements(verification: PlanVerification) -> tuple[Judgement, ...]:
    """The gates that a plan was held against."""
    return tuple(map(_judgement, verification.checks))


def _judgement(check: Check) -> Judgement:
    gate = Gate(stage=check.stage, metric=check.metric, limit=check.limit)
    judged = judge(gate, check.measured, check.unit)
    return Judgement(gate, judged.measured, judged.passed and check.passed, check.unit)


def facts(record: PlanRecord) -> list[str]:
    """For what machine, how it was built, what is in it."""
    machine, build = record.machine, record.parts[0].build
    dtypes = ", ".join(f"{name} {count}" for name, count in record.contents.dtypes.items())
    return [
        f"{LIBRARIES[machine.backend].label} {one_line(machine.version)}, SM {dotted(machine.sm)}, "
        f"{one_line(machine.gpu or 'GPU not here')}",
        f"built in {record.build_seconds:.1f} s, host memory {record.peak_host_mib} MiB, "
        f"timing cache {one_line(build.timing_cache)}",
        f"{sum(record.contents.layers.values())} layers; values: {one_line(dtypes)}",
    ]


def next_step(record: PlanRecord, bundle: Path) -> str:
    """The command that follows, for a plan that was checked or was not."""
    folder = escape(shlex.quote(str(bundle)))
    if record.verification.passed:
        return f"next: vla-run {folder} IMAGE"
    return f"next, on the target: vla-build --verify {folder}{backend_option(record.machine.backend)}"
