"""The choice among the engines, made in the open, never by falling back."""

from __future__ import annotations

import logging
from typing import Any

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND
from vla_edge.runtime.engines.tensorrt.plan_names import (
    PLANS_FOLDER,
    backend_of,
    backend_option,
    plans_in,
    rejected_in,
)
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.printable import IN_COMMAND

from .nvidia_gpu import has_nvidia_gpu
from .registry import ENGINES, WITHOUT_PLANS, Engine
from .session import Session
from .unused_gpu import idle_gpu_warning

logger = logging.getLogger(__name__)

_EXPLICITLY = (
    "To run without TensorRT, slower, choose backend='onnxruntime' yourself (--backend onnxruntime)."
)


def open_session(bundle: Bundle, backend: str = "auto", **options: Any) -> Session:
    """Load a bundle into an engine.

    Args:
        bundle: an opened bundle.
        backend: an engine by its name in `registry.ENGINES`: "onnxruntime", "tensorrt", "tensorrt-rtx"; or "auto":
            TensorRT where the bundle has a plan, else ONNX Runtime on the CPU, with a warning where that leaves
            an NVIDIA GPU or a plan idle; see `choose_backend`. What was chosen is logged and stands in the
            session's identity.
        options: fields of the engine's options, such as `threads` of `OnnxRuntimeOptions`.

    Raises:
        EngineError: the engine is missing or fails. "auto" fails as well when there are plans that cannot
            be used, or there were and missed their gates: a robot built for TensorRT must not slow down unnoticed.
        InputError: an unknown backend or option.
    """
    chosen = _engine(bundle, backend)
    if backend == "auto" and chosen.reads == "graph" and options.get("provider", "cpu") == "cpu":
        _warn_of_idle(bundle)
    try:
        session = chosen.open(bundle, options)
    except EngineError as error:
        if backend == "auto" and chosen.reads == "plans":
            raise EngineError(
                _with_plans(error.problem, bundle, chosen.name), f"{error.hint} {_EXPLICITLY}".strip()
            ) from error
        raise
    logger.info("%s -> %s, %s", backend, session.identity, session.identity.provider)
    return session


def unread_files(bundle: Bundle, backend: str) -> tuple[str, ...]:
    """Files of a bundle that an engine, by name or "auto", never opens: a plan holds graph and weights already.

    Raises:
        EngineError: as `choose_backend`.
        InputError: an unknown backend.
    """
    reads_graph = _engine(bundle, backend).reads == "graph"
    return (GOLDEN_NAME,) if reads_graph else (GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME)


def choose_backend(bundle: Bundle) -> str:
    """What "auto" stands for: the engine of the bundle's plans, or ONNX Runtime where there are none.

    A plan that was never checked, as one that was built for a GPU elsewhere, does not count where a checked one
    is beside it, nor on a machine without a GPU: nobody has relied on it yet, and it cannot run there.

    Raises:
        EngineError: there are plans, but not the TensorRT that runs them; or all were rejected: somebody wanted
            TensorRT here, and the CPU is not what he asked for.
    """
    plans = _plans_that_count(bundle)
    if not plans:
        _refuse_rejected(bundle)
        return WITHOUT_PLANS
    installed = _installed()
    for backend in installed:
        if any(backend_of(plan) == backend for plan in plans):
            return backend
    build = ""
    if installed:
        option = backend_option(installed[0])
        build = f" Or build for {installed[0]}, which is: vla-build {bundle.folder}{option}"
    raise EngineError(
        f"{bundle.folder} has plans ({', '.join(plans)}), but the TensorRT that runs them is not installed.",
        f"Install it.{build} {_EXPLICITLY}",
    )


def _engine(bundle: Bundle, backend: str) -> Engine:
    if backend == "auto":
        return ENGINES[choose_backend(bundle)]
    if not isinstance(backend, str) or backend not in ENGINES:
        raise InputError(f"backend {backend!r} is not known.", f"Use one of {', '.join(('auto', *ENGINES))}.")
    return ENGINES[backend]


def _plans_that_count(bundle: Bundle) -> list[str]:
    plans = _plans(bundle)
    if not plans:
        return []
    from .unchecked import is_unchecked

    checked = [name for name in plans if not is_unchecked(bundle.folder / PLANS_FOLDER / name, bundle.folder)]
    return checked or (plans if has_nvidia_gpu() else [])


def _refuse_rejected(bundle: Bundle) -> None:
    rejected = rejected_in(bundle.folder)
    if rejected:
        option = backend_option(backend_of(rejected[0]) or DEFAULT_BACKEND)
        raise EngineError(
            f"{bundle.folder} was built for TensorRT, but missed its gates there ({', '.join(rejected)}).",
            f"Find where: vla-bisect {bundle.folder}{option}. "
            f"Build another plan: vla-build {bundle.folder}{option}. {_EXPLICITLY}",
        )


def _plans(bundle: Bundle) -> list[str]:
    return plans_in(bundle.folder)


def _warn_of_idle(bundle: Bundle) -> None:
    """A slow path is never taken without a word."""
    if has_nvidia_gpu():
        _warn(idle_gpu_warning(bundle.folder, _installed()))
    elif plans := _plans(bundle):
        from .unchecked import unchecked_warning

        _warn(unchecked_warning(bundle.folder, plans))


def _warn(text: str) -> None:
    """Log it with what silences it: in a program an argument, in a command an option."""
    silent = "means the CPU without this warning.)"
    in_command = f"{text} (--backend onnxruntime {silent}"
    logger.warning("%s (backend='onnxruntime' %s", text, silent, extra={IN_COMMAND: in_command})


def _with_plans(problem: str, bundle: Bundle, backend: str) -> str:
    """Why TensorRT was asked at all, where the problem does not name a plan itself."""
    names = [name for name in _plans(bundle) if backend_of(name) == backend]
    if any(name in problem for name in names):
        return problem
    return f"{bundle.folder} has plans for {backend} ({', '.join(names)}), which cannot run: {problem}"


def _installed() -> list[str]:
    """The engines of plans that can be imported, the usual one first."""
    return [engine.name for engine in ENGINES.values() if engine.reads == "plans" and engine.is_installed()]
