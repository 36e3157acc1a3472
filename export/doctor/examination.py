"""The whole examination: what only native code tells first, then every check, each in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec import Struct

from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER

from .apart import Apart, Failure, Work
from .checks.desktop import check_desktop
from .checks.gpu import check_driver, check_gpu, check_kernels
from .checks.leftover import Leftover, find_leftovers, leftover_findings, places
from .checks.libraries import check_cuda_bindings, check_engines, check_onnxruntime_pair
from .checks.power import check_clocks, check_power_mode, check_throttling
from .checks.system import check_jetpack, check_python
from .finding import Finding, Verdict, untold
from .machine import Gpu, Library, Machine, installed_packages
from .probes import probe_gpu, probe_library, probe_slowdowns

if TYPE_CHECKING:
    from .checks.room import Build

_PROBE_LIMIT_S = 20.0  # a board's first call to its driver, a library from a slow card
_CHECK_LIMIT_S = 10.0
_CLEAN_LIMIT_S = 300.0  # gigabytes on a slow card
_OF_BUNDLE = ("files", "plan")
_HASHED_BYTES_PER_S = 20e6  # of a slow card, generously


class Looked(Struct, frozen=True):
    """What one check gave."""

    findings: tuple[Finding, ...] = ()
    leftovers: tuple[Leftover, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check by the name of what it looks at."""

    id: str
    what: str
    look: Callable[[], Looked]
    limit_s: float = _CHECK_LIMIT_S


@dataclass(frozen=True)
class Patient:
    """What to look at.

    Attributes:
        folder: of a bundle; None for the machine alone.
        name: of the bundle, or of its folder where its manifest is damaged.
        size_bytes: of its files.
        running: a policy runs here already, and its memory is taken.
    """

    folder: Path | None = None
    name: str = ""
    size_bytes: int = 0
    running: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which a person would ask."""

    patient: Patient
    findings: tuple[Finding, ...]
    leftovers: tuple[Leftover, ...]

    def of(self, verdict: Verdict) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == verdict]


def examine(
    patient: Patient, *, clean: bool = False, samples: bool = True, time_limit_s: float = 300.0
) -> Diagnosis:
    """Look at this machine, and at a bundle on it.

    Args:
        patient: what to look at.
        clean: remove what killed commands left.
        samples: run the bundle's golden samples.
        time_limit_s: for them.
    """
    with waiting("looking at this machine"):
        machine = this_machine()
        diagnosis = run_checks(patient, checks(patient, machine, clean))
    if patient.folder is None or patient.running or not samples or _unsound(diagnosis):
        return diagnosis
    with waiting("running golden samples"):
        return run_samples(diagnosis, patient.folder, time_limit_s)


def _unsound(diagnosis: Diagnosis) -> bool:
    """Whether the bundle, or its plan, is no good: then nothing of it is run."""
    return any(
        finding.verdict in ("stops", "unknown") for finding in diagnosis.findings if finding.id in _OF_BUNDLE
    )


def this_machine() -> Machine:
    """Ask driver and libraries, side by side; one that hangs or crashes becomes its own problem."""
    probes: list[Callable[[], object]] = [probe_gpu, probe_slowdowns]
    probes += [partial(probe_library, name) for name in ENGINES]
    with Apart([Work(probe, _PROBE_LIMIT_S) for probe in probes]) as apart:
        gpu, slowed, *libraries = apart.answers()
    return Machine(
        packages=installed_packages(),
        gpu=None if isinstance(gpu, Failure) else msgspec.json.decode(gpu, type=Gpu),
        gpu_problem=gpu.why if isinstance(gpu, Failure) else "",
        slowdowns=() if isinstance(slowed, Failure) else tuple(msgspec.json.decode(slowed)),
        libraries={name: _library(answer) for name, answer in zip(ENGINES, libraries, strict=True)},
    )


def _library(answer: bytes | Failure) -> Library:
    if isinstance(answer, Failure):
        return Library(problem=f"it cannot be loaded: {answer.why}", hint="Install it again.")
    return msgspec.json.decode(answer, type=Library)


def checks(patient: Patient, machine: Machine, clean: bool) -> list[Check]:
    """Every check, in the order of the table."""

    def of_machine(identity: str, what: str, check: Callable[[Machine], Iterable[Finding]]) -> Check:
        return Check(identity, what, lambda: Looked(tuple(check(machine))))

    return [
        of_machine("python", "Python", check_python),
        of_machine("jetpack", "JetPack", check_jetpack),
        of_machine("gpu", "GPU", check_gpu),
        of_machine("driver", "driver", check_driver),
        of_machine("engines", "engines", check_engines),
        of_machine("kernels", "kernels", check_kernels),
        of_machine("onnxruntime-pair", "ONNX Runtime", check_onnxruntime_pair),
        of_machine("cuda-bindings", "cuda-bindings", check_cuda_bindings),
        Check("memory", "memory", lambda: _memory(patient, machine)),
        Check("disk", "disk", lambda: _disk(patient, machine)),
        of_machine("power-mode", "power mode", check_power_mode),
        of_machine("clocks", "GPU clock", check_clocks),
        of_machine("throttling", "throttling", check_throttling),
        of_machine("desktop", "desktop", check_desktop),
        Check("leftovers", "leftovers", lambda: _leftovers(patient, clean), _clean_limit_s(clean)),
        *_bundle_checks(patient, machine),
    ]


def _bundle_checks(patient: Patient, machine: Machine) -> list[Check]:
    folder = patient.folder
    if folder is None:
        return []

    def look() -> Looked:
        from .checks.bundle import check_bundle

        return Looked(tuple(check_bundle(folder, machine)))

    limit_s = _CHECK_LIMIT_S + (patient.size_bytes + _plan_bytes(folder)) / _HASHED_BYTES_PER_S
    return [Check("files", "files", look, limit_s)]


def _plan_bytes(folder: Path) -> int:
    """Of all files beside the plans, which are hashed too."""
    from .checks.leftover import taken_bytes

    return taken_bytes(folder / PLANS_FOLDER)


def run_samples(diagnosis: Diagnosis, folder: Path, time_limit_s: float) -> Diagnosis:
    """The diagnosis with the golden samples' finding: an engine that crashes there would under a policy, too."""

    def look() -> Looked:
        from .checks.samples import check_samples

        return Looked(tuple(check_samples(folder)))

    with Apart([Work(look, time_limit_s)]) as apart:
        (answer,) = apart.answers()
    if not isinstance(answer, Failure):
        findings = msgspec.json.decode(answer, type=Looked).findings
    elif answer.kind == "late":
        todo = "Give a slow machine more time: --time-limit. An engine that never answers stops a robot, too."
        findings = (Finding("samples", "samples", f"could not be told: {answer.why}", "unknown", todo),)
    elif answer.kind == "ended":
        todo = "Build the plan again, or install the engine again; memory may have run out: dmesg tells."
        findings = (Finding("samples", "samples", f"the engine crashed: {answer.why}", "stops", todo),)
    else:
        findings = (untold("samples", "samples", answer.why),)
    return replace(diagnosis, findings=(*diagnosis.findings, *findings))


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for."""
    if not sys.stderr.isatty():
        yield
        return
    shown = f"{what} ..."
    click.echo(f"{shown}\r", err=True, nl=False)
    try:
        yield
    finally:
        click.echo(f"{' ' * len(shown)}\r", err=True, nl=False)


def _memory(patient: Patient, machine: Machine) -> Looked:
    from .checks.room import check_memory
    from .checks.running import running_memory

    running = None if patient.running else running_memory(patient.folder, machine)
    return Looked(tuple(check_memory(machine, _build(patient, machine), running)))


def _disk(patient: Patient, machine: Machine) -> Looked:
    from .checks.room import check_disk

    folder = patient.folder or Path.cwd()
    return Looked(tuple(check_disk(machine, folder, _build(patient, machine))))


def _build(patient: Patient, machine: Machine) -> Build | None:
    from .checks.bundle import pending_build

    return pending_build(patient.folder, machine) if patient.folder else None


def _leftovers(patient: Patient, clean: bool) -> Looked:
    looked = places(patient.folder)
    found = find_leftovers(looked, clean)
    return Looked(tuple(leftover_findings(found, looked)), tuple(found))


def _clean_limit_s(clean: bool) -> float:
    return _CLEAN_LIMIT_S if clean else _CHECK_LIMIT_S


def run_checks(patient: Patient, asked: list[Check]) -> Diagnosis:
    """Make the checks side by side; one that fails itself is a finding, too."""
    findings: list[Finding] = []
    leftovers: list[Leftover] = []
    with Apart([Work(check.look, check.limit_s) for check in asked]) as apart:
        for check, answer in zip(asked, apart.answers(), strict=True):
            if isinstance(answer, Failure):
                findings.append(untold(check.id, check.what, answer.why))
            else:
                looked = msgspec.json.decode(answer, type=Looked)
                findings.extend(looked.findings)
                leftovers.extend(looked.leftovers)
    return Diagnosis(patient, tuple(findings), tuple(leftovers))
