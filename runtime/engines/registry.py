"""Engines for bundles, and the choice among them."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from typing import Any, Literal, get_args

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME
from vla_edge.runtime.errors import EngineError, InputError

from .session import EngineIdentity, Session
from .unused_gpu import has_nvidia_gpu, idle_gpu_warning

Backend = Literal["auto", "onnxruntime", "tensorrt", "tensorrt-rtx"]
TensorRt = Literal["tensorrt", "tensorrt-rtx"]

PLANS_FOLDER = "plans"
_TENSORRT_MODULES: dict[TensorRt, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}

logger = logging.getLogger(__name__)

__all__ = ["Backend", "EngineIdentity", "Session", "choose_backend", "open_session", "unread_files"]


def open_session(bundle: Bundle, backend: Backend = "auto", **options: Any) -> Session:
    """Load a bundle into an engine.

    Args:
        bundle: an opened bundle.
        backend: an engine by name; or "auto": TensorRT where the bundle has a plan, else ONNX Runtime on
            the CPU, with a warning where that leaves an NVIDIA GPU or a plan idle; see `choose_backend`. What
            was chosen is logged and stands in the session's identity.
        options: fields of the engine's options, such as `threads` of `OnnxRuntimeOptions`.

    Raises:
        EngineError: the engine is missing or fails. "auto" fails as well when there are plans that cannot
            be used: a robot built for TensorRT must not slow down unnoticed.
        InputError: an unknown backend or option.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend {backend!r} is not known.", f"Use one of {', '.join(get_args(Backend))}.")
    chosen = choose_backend(bundle) if backend == "auto" else backend
    on_cpu = chosen == "onnxruntime" and options.get("provider", "cpu") == "cpu"
    if backend == "auto" and on_cpu:
        _warn_of_idle(bundle)
    try:
        session = _open(bundle, chosen, options)
    except EngineError as error:
        if backend == "auto" and chosen != "onnxruntime":
            raise EngineError(
                _with_plans(error.problem, bundle, chosen), f"{error.hint} {_EXPLICITLY}".strip()
            ) from error
        raise
    logger.info("%s -> %s, %s", backend, session.identity, session.identity.provider)
    return session


def unread_files(backend: str) -> tuple[str, ...]:
    """Files of a bundle that an engine never opens: a plan holds the graph and its weights already."""
    return (GOLDEN_NAME,) if backend == "onnxruntime" else (GOLDEN_NAME, MODEL_NAME, WEIGHTS_NAME)


def choose_backend(bundle: Bundle) -> Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]:
    """What "auto" stands for: the engine of the bundle's plans, or ONNX Runtime where there are none.

    A plan that was never checked, as one that was built for a GPU elsewhere, does not count where a checked one
    is beside it, nor on a machine without a GPU: nobody has relied on it yet, and it cannot run there.

    Raises:
        EngineError: there are plans, but not the TensorRT that runs them.
    """
    plans = _plans_that_count(bundle)
    if not plans:
        return "onnxruntime"
    installed = _installed()
    for backend in installed:
        if any(_backend_of(plan) == backend for plan in plans):
            return backend
    build = ""
    if installed:
        option = "" if installed[0] == "tensorrt" else f" --backend {installed[0]}"
        build = f" Or build for {installed[0]}, which is: vla-build {bundle.folder}{option}"
    raise EngineError(
        f"{bundle.folder} has plans ({', '.join(plans)}), but the TensorRT that runs them is not installed.",
        f"Install it.{build} {_EXPLICITLY}",
    )


def _plans_that_count(bundle: Bundle) -> list[str]:
    plans = _plans(bundle)
    if not plans:
        return []
    from .unchecked import is_unchecked

    checked = [name for name in plans if not is_unchecked(bundle.folder / PLANS_FOLDER / name, bundle.folder)]
    return checked or (plans if has_nvidia_gpu() else [])


def _plans(bundle: Bundle) -> list[str]:
    return sorted(path.name for path in (bundle.folder / PLANS_FOLDER).glob("*.plan"))


def _warn_of_idle(bundle: Bundle) -> None:
    """A slow path is never taken without a word."""
    if has_nvidia_gpu():
        logger.warning("%s", idle_gpu_warning(bundle.folder, _installed()))
    elif plans := _plans(bundle):
        from .unchecked import unchecked_warning

        logger.warning("%s", unchecked_warning(bundle.folder, plans))


def _with_plans(problem: str, bundle: Bundle, backend: str) -> str:
    """Why TensorRT was asked at all, where the problem does not name a plan itself."""
    names = [name for name in _plans(bundle) if _backend_of(name) == backend]
    if any(name in problem for name in names):
        return problem
    return f"{bundle.folder} has plans for {backend} ({', '.join(names)}), which cannot run: {problem}"


def _installed() -> list[TensorRt]:
    """The TensorRT backends that can be imported, the usual one first."""
    return [name for name, module in reversed(_TENSORRT_MODULES.items()) if importlib.util.find_spec(module)]


_EXPLICITLY = (
    "To run without TensorRT, slower, choose backend='onnxruntime' yourself (--backend onnxruntime)."
)


def _backend_of(plan: str) -> str:
    """Plans are named `<backend>-<version>-sm<NN>.plan`."""
    return next((backend for backend in _TENSORRT_MODULES if plan.startswith(f"{backend}-")), "unknown")


def _open(bundle: Bundle, backend: str, options: dict[str, Any]) -> Session:
    if backend == "onnxruntime":
        from .onnxruntime import OnnxRuntimeOptions, OnnxRuntimeSession

        return OnnxRuntimeSession(bundle, _make(OnnxRuntimeOptions, options))
    from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession

    return TensorRtSession(bundle, _make(TensorRtOptions, {"backend": backend, **options}))


def _make(kind: type[Any], options: dict[str, Any]) -> Any:
    """An options object from keywords; a wrong one is named."""
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is no option of this engine.", f"{kind.__name__} has {', '.join(known)}."
        )
    return kind(**options)
