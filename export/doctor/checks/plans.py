"""A bundle's plans: each by its side file and every byte of its files, and the one that a policy would get here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_edge.export.screen.screen import size
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.choice import choose_backend
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES, Backend
from vla_edge.runtime.engines.tensorrt.parts.loading import chain_of
from vla_edge.runtime.engines.tensorrt.plan import (
    PlanFile,
    check_record,
    find_plan,
    open_part,
    read_record,
    require_verified,
)
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLANS_FOLDER,
    backend_of,
    backend_option,
    dotted,
    named_in,
    rejected_in,
)
from vla_edge.runtime.engines.tensorrt.record import Machine as PlanMachine
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.printable import one_line

from ..finding import Finding
from ..machine import Library, Machine


@dataclass(frozen=True)
class _Looked:
    """A plan after its side file and its files were read.

    Attributes:
        name: of the plan.
        plan: with its record; None where its side file cannot be read.
        damage: why nothing here or elsewhere runs it; None where it is whole and this bundle's.
    """

    name: str
    plan: PlanFile | None
    damage: EngineError | None

    @property
    def engine(self) -> str:
        return backend_of(self.name) or (self.plan.record.machine.backend if self.plan else DEFAULT_BACKEND)

    def __str__(self) -> str:
        """Such as "a.plan (TensorRT 10.3.0, SM 8.7, 5 parts, 3.05 GiB)"."""
        if self.plan is None:
            return one_line(self.name)
        record = self.plan.record
        parts = f"{len(record.parts)} parts, " if len(record.parts) > 1 else ""
        built = (
            f"{ENGINES[self.engine].label} {one_line(record.machine.version)}, SM {dotted(record.machine.sm)}"
        )
        return f"{one_line(self.name)} ({built}, {parts}{size(record.size_bytes)})"


def check_plans(folder: Path, machine: Machine) -> Iterator[Finding]:
    """Which engine a policy gets here, whether the plan for it fits and is whole; then every other plan."""
    bundle = Bundle.open(folder, "size")
    named = shlex.quote(str(bundle.folder))
    for name in rejected_in(bundle.folder):
        found = f"{one_line(name)} missed its gates and is not used"
        todo = f"vla-bisect {named} finds where; vla-build {named} builds anew."
        yield Finding("plan-rejected", "plan", found, "warning", todo)
    plans = [_look(bundle, name) for name in named_in(bundle.folder)]
    taken = None
    try:
        engine = choose_backend(bundle)
    except EngineError as error:
        yield Finding("plan", "plan", error.problem, "stops", error.hint)
    else:
        if ENGINES[engine].reads == "plans":
            finding, taken = _plan(bundle, machine, engine, plans)
            yield finding
        else:
            yield _no_plan(machine, engine, named, plans)
    for each in plans:
        if each.name != taken:
            yield _beside(each, machine)


def fits(bundle: Bundle, machine: Machine, engine: str) -> PlanFile | None:
    """The plan for an engine here, by its side file alone; one that was never checked needs no build either.

    None where there is none, or it missed its gates.
    """
    try:
        plan = find_plan(bundle, plan_machine(machine, engine))
    except EngineError:
        return None
    return None if plan.record.verification.passed is False else plan


def planners(machine: Machine) -> list[Backend]:
    """The engines of plans whose libraries can be used here."""
    return [name for name in LIBRARIES if machine.runs(name)]


def _look(bundle: Bundle, name: str) -> _Looked:
    path = bundle.folder / PLANS_FOLDER / name
    plan = None
    try:
        plan = PlanFile(path, read_record(path, bundle.folder), bundle.folder)
        check_record(plan, bundle, plan.record.machine)  # of this bundle; of which machine does not count yet
        chain_of(plan, bundle.manifest)
        for part in plan.record.parts:
            with open_part(plan, part):
                pass
    except EngineError as error:
        return _Looked(name, plan, error)
    return _Looked(name, plan, None)


def _no_plan(machine: Machine, engine: str, named: str, plans: list[_Looked]) -> Finding:
    label, able = ENGINES[engine].label, planners(machine) if machine.gpu else []
    none = "none that runs here" if plans else "none"
    if able:
        build = f"vla-build {named}{backend_option(able[0])}"
        if not machine.runs(engine):
            return Finding("plan", "plan", f"{none} yet", "stops", build)
        return Finding("plan", "plan", f"{none}: the policy runs on the CPU, slowly", "warning", build)
    if machine.runs(engine):
        return Finding("plan", "plan", f"{none}; {label} runs the graph on the CPU")
    todo = "Install an engine, see above."
    return Finding("plan", "plan", f"{none}, and no engine that runs here", "stops", todo)


def _plan(bundle: Bundle, machine: Machine, engine: str, plans: list[_Looked]) -> tuple[Finding, str | None]:
    """What is said of the plan that an engine would take, and its name where that is known."""
    theirs = [each for each in plans if each.engine == engine]
    damaged = next((each for each in theirs if each.damage), None)
    if damaged and all(each.damage for each in theirs):  # whatever else is missing: this stays
        return _stops(damaged.damage), damaged.name
    if not machine.runs(engine):
        library = machine.libraries.get(engine, Library(problem="its library did not answer."))
        return Finding("plan", "plan", f"it cannot run: {library.problem}", "stops", library.hint), None
    if machine.gpu is None:
        whole = ", ".join(str(each) for each in theirs if not each.damage)
        found = f"{whole}: whole, but no GPU answers here: {machine.gpu_problem}"
        todo = "The row GPU says what to do. Slower, and only if it is asked for: --backend onnxruntime."
        return Finding("plan", "plan", found, "stops", todo), theirs[0].name if len(theirs) == 1 else None
    try:
        plan = find_plan(bundle, plan_machine(machine, engine))
    except EngineError as error:
        return _stops(error), None
    looked = next(each for each in plans if each.name == plan.path.name)
    try:
        require_verified(plan)
    except EngineError as error:
        return _stops(looked.damage or error), looked.name
    if looked.damage:
        return _stops(looked.damage), looked.name
    checked = plan.record.verification.checked_utc or "at an unknown time"
    return Finding("plan", "plan", f"{looked} fits; checked {one_line(checked)}"), looked.name


def _stops(error: EngineError | None) -> Finding:
    problem, hint = (error.problem, error.hint) if error else ("", "")
    return Finding("plan", "plan", problem, "stops", hint)


def _beside(each: _Looked, machine: Machine) -> Finding:
    """A plan that a policy does not get here: no harm, but whoever put it there should know why."""
    if each.damage or each.plan is None:
        problem, hint = (each.damage.problem, each.damage.hint) if each.damage else ("", "")
        return Finding("plan-beside", "plan", f"not used, and damaged: {problem}", "warning", hint)
    record = each.plan.record
    where = _elsewhere(record.machine, machine)
    if record.verification.passed:
        return Finding("plan-beside", "plan", f"{each}: whole and checked; not used here{where}")
    if record.verification.passed is None:
        verify = f"vla-build --verify {shlex.quote(str(each.plan.folder))}{backend_option(each.engine)}"
        found = f"{each}: whole, but never checked, so not used{where}"
        return Finding("plan-beside", "plan", found, "warning", f"Where its GPU is: {verify}")
    found = f"{each}: it missed its gates, so it is not used{where}"
    return Finding("plan-beside", "plan", found, "warning", each.plan.hint)


def _elsewhere(theirs: PlanMachine, machine: Machine) -> str:
    """Why this machine would not run it anyway; empty where it would."""
    if machine.gpu is None:
        return "; it needs a GPU"
    if theirs.sm != machine.gpu.sm:
        return f"; this GPU has SM {dotted(machine.gpu.sm)}"
    library, label = machine.libraries.get(theirs.backend), ENGINES[theirs.backend].label
    if library is None or library.problem:
        return f"; {label} is not here"
    return "" if library.version == theirs.version else f"; {label} here is {library.version}"


def plan_machine(machine: Machine, engine: str) -> PlanMachine:
    """What a plan of an engine must have been built for to run here.

    Raises:
        EngineError: no GPU answers.
    """
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
