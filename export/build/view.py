"""What `vla-build` prints about a plan: whether it was checked and how far it is off, then what it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vla_edge.export.screen import gates as gate_view
from vla_edge.export.screen.screen import escape, one_line, plain_table, prose, result_console, say, size
from vla_edge.runtime.bundle.manifest import CAMERA_STAGE, Gate, Manifest
from vla_edge.runtime.checks.gates import Judgement, judge
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER, backend_option, dotted
from vla_edge.runtime.engines.tensorrt.record import (
    Check,
    PartRecord,
    PlanRecord,
    PlanVerification,
    StreamTimes,
)

if TYPE_CHECKING:
    from rich.table import Table

    from .build import BuildResult
    from .verify import StageMeasure

ACTION = "action"
_WHAT_A_PART_IS = (
    "A part begins where others end and is named for its own end: text.3 is up to the text layer of that number, the "
    "last up to the answer."
)
_WHAT_A_CAMERA_IS = (
    " camera is what turns its frames into pixels: a bundle for another one differs in that part alone."
)
_MIB = 1 << 20


def print_built(results: Sequence[BuildResult], bundle: Path, idle: Sequence[str] = ()) -> None:
    """The plans of one call, and what to do next.

    Args:
        results: in the order in which they were built.
        bundle: its folder, as the user wrote it.
        idle: options that were given, and change nothing of a plan that is there.
    """
    console = result_console()
    for at, result in enumerate(results):
        if at:
            console.print()
        record = result.record
        prose(console, f"[bold]{verdict(record.verification)}[/]")
        path = escape(str(bundle / PLANS_FOLDER / result.path.name))
        parts = f" in {len(record.parts)} parts" if len(record.parts) > 1 else ""
        unheard = f": {', '.join(idle)} changed nothing; --force builds anew" if idle else ""
        there = "" if result.fresh else f" (was there already{unheard})"
        say(console, f"{path}  {size(record.size_bytes)}{parts}{there}")
        for line in facts(record, result.origins):
            prose(console, f"  {line}")
        if len(record.parts) > 1:
            console.print(parts_table(record, result.origins))
            of_camera = record.parts[0].name == CAMERA_STAGE
            prose(console, _WHAT_A_PART_IS + _WHAT_A_CAMERA_IS * of_camera, "dim")
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
    """Such as "checked: action within 0.0049 m/s of 0.02 m/s allowed, 4.1x room (10 samples)"."""
    word = {True: "checked", False: "REJECTED", None: "NOT checked"}[verification.passed]
    action = next((found for found in judgements(verification) if found.gate.stage == ACTION), None)
    if action is None:
        return f"{word}: {one_line(verification.note)}"
    within = "within " if action.passed else ""
    return f"{word}: action {within}{gate_view.sentence(action)} ({len(verification.samples)} samples)"


def judgements(verification: PlanVerification) -> tuple[Judgement, ...]:
    """The gates that a plan was held against."""
    return tuple(map(_judgement, verification.checks))


def _judgement(check: Check) -> Judgement:
    gate = Gate(stage=check.stage, metric=check.metric, limit=check.limit)
    judged = judge(gate, check.measured, check.unit)
    return Judgement(gate, judged.measured, judged.passed and check.passed, check.unit)


def facts(record: PlanRecord, origins: Mapping[str, str] | None = None) -> list[str]:
    """For what machine, how it was built, what is in it; `origins` as in `BuildResult`."""
    machine = record.machine
    dtypes = ", ".join(f"{name} {count}" for name, count in record.contents.dtypes.items())
    return [
        f"{LIBRARIES[machine.backend].label} {one_line(machine.version)}, SM {dotted(machine.sm)}, "
        f"{one_line(machine.gpu or 'GPU not here')}",
        _how_built(record, origins or {}),
        f"{sum(record.contents.layers.values())} layers; values: {one_line(dtypes)}",
        *([_streams(record.streams, record.parts)] if record.streams else ()),
    ]


def _how_built(record: PlanRecord, origins: Mapping[str, str]) -> str:
    own = [part for part in record.parts if part.build.found_in is None]
    built = [part.build for part in own if part.name not in origins] or [part.build for part in own]
    if not built and len(record.parts) == 1:
        part = record.parts[0]
        where = origins.get(part.name, f"taken from export {part.build.found_in}")
        return f"nothing built: {one_line(where)}"
    if not built:
        return f"nothing built: all {len(record.parts)} parts were found"
    host, peaks = max(build.peak_host_mib for build in built), [build.peak_mib for build in built]
    with_gpu = max((peak for peak in peaks if peak is not None), default=None)
    memory = f"host memory {host:,} MiB" + ("" if with_gpu is None else f", with the GPU's {with_gpu:,} MiB")
    if len(record.parts) > 1:
        memory = f"its largest part: {memory}"
    elif built[0].predicted_mib is not None:
        memory += f", predicted {built[0].predicted_mib:,} MiB"
    seconds = sum(build.seconds for build in built)
    before = f" and {record.build_seconds - seconds:.1f} s before" if len(built) < len(own) else ""
    return f"built in {seconds:.1f} s{before}, {memory}, timing cache {one_line(built[0].timing_cache)}"


def _streams(times: StreamTimes, parts: Sequence[PartRecord]) -> str:
    kept = "side by side" if any(part.stream for part in parts) else "in line"
    return f"parts in line {times.in_line_ms:.3f} ms, side by side {times.side_by_side_ms:.3f} ms: {kept}"


def parts_table(record: PlanRecord, origins: Mapping[str, str]) -> Table:
    """Each part: what was predicted for its build, what it took, and where it is from.

    Of a plan that was there, what its side file knows of that: the name of the export.
    """
    titles = ("part", "weights", "predicted", "memory", "time", "from")
    table = plain_table(titles, right=titles[1:5])
    for part in record.parts:
        build = part.build
        taken = build.peak_host_mib if build.peak_mib is None else build.peak_mib
        weights = "" if part.weights_bytes is None else f"{part.weights_bytes / _MIB:,.0f} MiB"
        found = build.found_in is not None
        where = "built" if build.found_in is None else f"export {build.found_in}"
        if part.name in origins:
            where = origins[part.name].removeprefix("found in ")
        table.add_row(
            one_line(part.name),
            weights,
            "" if build.predicted_mib is None or found else f"{build.predicted_mib:,} MiB",
            "" if found else f"{taken:,} MiB",
            "" if found else f"{build.seconds:.1f} s",
            one_line(where),
        )
    return table


def next_step(record: PlanRecord, bundle: Path) -> str:
    """The command that follows, for a plan that was checked or was not."""
    folder = escape(shlex.quote(str(bundle)))
    if record.verification.passed:
        return f"next: vla-run {folder} IMAGE"
    return f"next, on the target: vla-build --verify {folder}{backend_option(record.machine.backend)}"
