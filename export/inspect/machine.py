"""Which engines this machine has, and which of them runs a given bundle."""

from __future__ import annotations

from dataclasses import dataclass

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.graph_check import check_graph
from vla_edge.runtime.cuda.device import DeviceInfo
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines import registry
from vla_edge.runtime.engines.choice import choose_backend
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.library import Backend
from vla_edge.runtime.engines.tensorrt.plan import find_plan, require_readable, require_verified
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.errors import BundleError, EngineError


@dataclass(frozen=True)
class Installed:
    """An engine's library; `version` is empty and `problem` a sentence where it cannot be used."""

    backend: str
    version: str
    problem: str


@dataclass(frozen=True)
class ThisMachine:
    """What can run bundles here.

    Attributes:
        engines: all in the registry.
        gpu: the first GPU; None where there is none, or no TensorRT to run on it.
        gpu_problem: why there is none; empty where nothing asked.
    """

    engines: tuple[Installed, ...]
    gpu: DeviceInfo | None
    gpu_problem: str


@dataclass(frozen=True)
class Engine:
    """One engine and one bundle.

    Attributes:
        backend, version: of the library; the version is empty where it is not installed.
        plan: name of the plan that fits this machine.
        problem: why this engine does not run the bundle here; empty where it does.
    """

    backend: str
    version: str
    plan: str | None
    problem: str


@dataclass(frozen=True)
class Here:
    """How a bundle runs on this machine.

    Attributes:
        engines: each on its own.
        default: what a policy is loaded with where no engine is named; empty where that fails.
        problem: why it fails.
        asked: the engine that runs it when it is named, where the default fails; or empty.
    """

    engines: tuple[Engine, ...]
    default: str
    problem: str
    asked: str


def this_machine() -> ThisMachine:
    """Look at the libraries and the first GPU; nothing of a bundle is loaded."""
    engines = tuple(map(_installed, ENGINES.values()))
    if all(engine.problem for engine in engines if ENGINES[engine.backend].reads == "plans"):
        return ThisMachine(engines, None, "")
    try:
        device = open_device()
    except EngineError as error:
        return ThisMachine(engines, None, error.problem)
    device.close()
    return ThisMachine(engines, device.info, "")


def runs_here(bundle: Bundle, machine: ThisMachine) -> Here:
    """Which engines would take the bundle, as far as can be told without loading it."""
    engines = tuple(_engine(bundle, installed, machine) for installed in machine.engines)
    try:
        check_graph(bundle.manifest, batch=None)
    except BundleError as error:  # an engine runs it for whoever drives the graph himself, but no policy does
        return Here(engines, "", error.problem, "")
    asked = next((engine.backend for engine in engines if not engine.problem), "")
    try:
        default = choose_backend(bundle)
    except EngineError as error:
        return Here(engines, "", error.problem, asked)
    problem = next(engine.problem for engine in engines if engine.backend == default)
    return Here(engines, "", problem, asked) if problem else Here(engines, default, "", "")


def _installed(engine: registry.Engine) -> Installed:
    try:
        return Installed(engine.name, engine.load_library(), "")
    except EngineError as error:
        return Installed(engine.name, "", error.problem)


def _engine(bundle: Bundle, installed: Installed, machine: ThisMachine) -> Engine:
    def refused(problem: str) -> Engine:
        return Engine(installed.backend, installed.version, None, problem)

    if installed.problem:
        return refused(installed.problem)
    if ENGINES[installed.backend].reads == "graph":
        return Engine(installed.backend, installed.version, None, "")
    backend: Backend = installed.backend  # type: ignore[assignment]
    try:
        require_readable(bundle, backend)
    except EngineError as error:
        return refused(error.problem)
    if machine.gpu is None:
        return refused(machine.gpu_problem)
    gpu = machine.gpu
    target = Machine(
        backend=backend,
        version=installed.version,
        sm=gpu.sm,
        gpu=gpu.name,
        driver=gpu.driver,
    )
    try:
        plan = find_plan(bundle, target)
        require_verified(plan)
    except EngineError as error:
        return refused(error.problem)
    return Engine(installed.backend, installed.version, plan.path.name, "")
