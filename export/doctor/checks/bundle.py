"""A bundle: its files, and its plans against this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from vla_edge.export.build.memory import weights_bytes
from vla_edge.export.families import BUILT_IN, GROUP
from vla_edge.export.parts.graph import read_graph
from vla_edge.export.screen.screen import size
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.graph_check import check_graph
from vla_edge.runtime.engines.choice import choose_backend
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.plan import find_plan, require_verified
from vla_edge.runtime.engines.tensorrt.plan_names import backend_option, rejected_in
from vla_edge.runtime.engines.tensorrt.record import Machine as PlanMachine
from vla_edge.runtime.errors import BundleError, EngineError
from vla_edge.runtime.printable import one_line

from ..finding import Finding
from ..machine import Library, Machine
from .room import Build


def pending_build(folder: Path, machine: Machine) -> Build | None:
    """The build that this machine still has to make of a bundle; None where a plan fits, or nothing can be built."""
    try:
        bundle = Bundle.unchecked(folder)
    except BundleError:  # `check_files` says so
        return None
    if machine.gpu is None or any(_fitting(bundle, machine, name) for name in _planners(machine)):
        return None
    return Build(bundle.folder, weights_bytes(bundle.manifest), _largest_part(bundle))


def _largest_part(bundle: Bundle) -> int | None:
    """Bytes of weights of the largest part where the graph is cut wherever it can be; None where it cannot."""
    try:
        segments = read_graph(bundle).segments
    except BundleError:  # `check_files` says what is damaged; what cannot be cut is built whole
        return None
    return max(segment.weights_bytes for segment in segments) if len(segments) > 1 else None


def check_bundle(folder: Path, machine: Machine) -> Iterator[Finding]:
    """Its files, and if they are sound its plans."""
    files = tuple(check_files(folder))
    yield from files
    if all(finding.verdict == "ok" for finding in files):
        yield from check_plans(folder, machine)


def check_files(folder: Path) -> Iterator[Finding]:
    """Every listed file by its hash, and whether a policy can feed its graph."""
    try:
        bundle = Bundle.open(folder)
        check_graph(bundle.manifest, batch=None)
    except BundleError as error:
        yield Finding("files", "files", error.problem, "stops", error.hint)
        return
    files = bundle.manifest.files
    total = size(sum(entry.size_bytes for entry in files))
    found = f"{one_line(bundle.manifest.name)}: {len(files)} files, {total}, all as exported"
    yield Finding("files", "files", f"{found}{_family(bundle)}")


def _family(bundle: Bundle) -> str:
    """A remark where no family here has the name of the policy's: it runs by its manifest all the same.

    Families are code of other packages, and nothing of them is imported to look at a bundle on a robot.
    """
    architecture = bundle.manifest.architecture
    name = architecture.family if architecture else BUILT_IN
    if name in (BUILT_IN, *(offer.name for offer in entry_points(group=GROUP))):
        return ""
    return f"; its family {one_line(name)} is not installed here, nor needed to run it"


def check_plans(folder: Path, machine: Machine) -> Iterator[Finding]:
    """Which engine a policy gets here, and whether the plan for it fits."""
    bundle = Bundle.open(folder, "size")
    named = shlex.quote(str(bundle.folder))
    for name in rejected_in(bundle.folder):
        found = f"{one_line(name)} missed its gates and is not used"
        todo = f"vla-bisect {named} finds where; vla-build {named} builds anew."
        yield Finding("plan-rejected", "plan", found, "warning", todo)
    try:
        engine = choose_backend(bundle)
    except EngineError as error:
        yield Finding("plan", "plan", error.problem, "stops", error.hint)
        return
    if ENGINES[engine].reads == "plans":
        yield _plan(bundle, machine, engine)
    else:
        yield _no_plan(machine, engine, named)


def _no_plan(machine: Machine, engine: str, named: str) -> Finding:
    label, planners = ENGINES[engine].label, _planners(machine) if machine.gpu else []
    if planners:
        build = f"vla-build {named}{backend_option(planners[0])}"
        if not machine.runs(engine):
            return Finding("plan", "plan", "none yet", "stops", build)
        return Finding("plan", "plan", "none: the policy runs on the CPU, slowly", "warning", build)
    if machine.runs(engine):
        return Finding("plan", "plan", f"none; {label} runs the graph on the CPU")
    return Finding(
        "plan", "plan", "none, and no engine that runs here", "stops", "Install an engine, see above."
    )


def _planners(machine: Machine) -> list[str]:
    return [name for name, engine in ENGINES.items() if engine.reads == "plans" and machine.runs(name)]


def _plan(bundle: Bundle, machine: Machine, engine: str) -> Finding:
    if not machine.runs(engine):
        library = machine.libraries.get(engine, Library(problem="its library did not answer."))
        return Finding("plan", "plan", f"it cannot run: {library.problem}", "stops", library.hint)
    if machine.gpu is None:
        found = f"it cannot run, as no GPU answers: {machine.gpu_problem}"
        return Finding("plan", "plan", found, "stops", "See GPU above.")
    try:
        plan = find_plan(bundle, _plan_machine(machine, engine))
        require_verified(plan)
    except EngineError as error:
        return Finding("plan", "plan", error.problem, "stops", error.hint)
    checked = plan.record.verification.checked_utc or "at an unknown time"
    return Finding("plan", "plan", f"{one_line(plan.path.name)} fits; checked {one_line(checked)}")


def _fitting(bundle: Bundle, machine: Machine, engine: str) -> bool:
    try:
        require_verified(find_plan(bundle, _plan_machine(machine, engine)))
    except EngineError:
        return False
    return True


def _plan_machine(machine: Machine, engine: str) -> PlanMachine:
    gpu = machine.gpu
    if gpu is None:
        raise EngineError(machine.gpu_problem)
    return PlanMachine(
        backend=engine,  # type: ignore[arg-type]
        version=machine.libraries[engine].version,
        sm=gpu.sm,
        gpu=gpu.name,
        driver=None,
    )
