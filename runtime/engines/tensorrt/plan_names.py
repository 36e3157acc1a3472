"""Where plans and their side files lie in a bundle, what their names say, and how commands name their library."""

from __future__ import annotations

from pathlib import Path

from .library import DEFAULT_BACKEND, LIBRARIES, Backend

PLANS_FOLDER = "plans"
RECORD_SUFFIX = ".json"
REJECTED_SUFFIX = ".rejected"


def plan_path(bundle_folder: Path, backend: str, version: str, sm: int) -> Path:
    """Where the plan of a TensorRT version and GPU architecture lies."""
    return bundle_folder / PLANS_FOLDER / f"{backend}-{version}-sm{sm}.plan"


def record_path(plan: Path) -> Path:
    return plan.with_name(plan.name + RECORD_SUFFIX)


def backend_of(plan: str) -> Backend | None:
    """The library of a plan by its file's name; None where that is no name of `plan_path`."""
    # the longest first: one library's name begins like another's
    by_length = sorted(LIBRARIES, key=len, reverse=True)
    return next((backend for backend in by_length if plan.startswith(f"{backend}-")), None)


def backend_option(backend: str) -> str:
    """What a command needs to mean this library: nothing for its default."""
    return "" if backend == DEFAULT_BACKEND else f" --backend {backend}"


def dotted(sm: int) -> str:
    """A compute capability as NVIDIA writes it: 8.9."""
    return f"{sm // 10}.{sm % 10}"
