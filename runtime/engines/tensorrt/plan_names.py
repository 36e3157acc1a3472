"""Where plans and their side files lie in a bundle, what their names say, and how commands name their library."""

from __future__ import annotations

from pathlib import Path

from .library import DEFAULT_BACKEND, LIBRARIES, Backend

PLANS_FOLDER = "plans"
PLAN_SUFFIX = ".plan"
PART_SUFFIX = ".part"
RECORD_SUFFIX = ".json"
REJECTED_SUFFIX = ".rejected"


def plan_path(bundle_folder: Path, backend: str, version: str, sm: int) -> Path:
    """Where the plan of a TensorRT version and GPU architecture lies."""
    return bundle_folder / PLANS_FOLDER / f"{backend}-{version}-sm{sm}{PLAN_SUFFIX}"


def part_path(plan: Path, name: str, key: str) -> Path:
    """Where a part of a plan lies: named by what decides its bytes, so that no other part ever takes its place.

    Args:
        plan: as `plan_path` tells; of a plan in parts there is no file of that name.
        name: of the part.
        key: hexadecimal.
    """
    return plan.with_name(f"{plan.name.removesuffix(PLAN_SUFFIX)}.{name}.{key[:12]}{PART_SUFFIX}")


def record_path(plan: Path) -> Path:
    return plan.with_name(plan.name + RECORD_SUFFIX)


def plans_in(bundle_folder: Path) -> list[str]:
    """The names of a bundle's plans, sorted, of those in parts too; nothing is opened."""
    folder = bundle_folder / PLANS_FOLDER
    names = {path.name for path in folder.glob(f"*{PLAN_SUFFIX}")}
    for path in folder.glob(f"*{PLAN_SUFFIX}{RECORD_SUFFIX}"):
        name = path.name.removesuffix(RECORD_SUFFIX)
        if any(folder.glob(f"{name.removesuffix(PLAN_SUFFIX)}.*{PART_SUFFIX}")):
            names.add(name)
    return sorted(names)


def named_in(bundle_folder: Path) -> list[str]:
    """As `plans_in`, with those of which only the side file is left."""
    found = (bundle_folder / PLANS_FOLDER).glob(f"*{PLAN_SUFFIX}{RECORD_SUFFIX}")
    return sorted({*plans_in(bundle_folder), *(path.name.removesuffix(RECORD_SUFFIX) for path in found)})


def rejected_in(bundle_folder: Path) -> list[str]:
    """The names of plans that were set aside, sorted, by the plan or its side file."""
    found = (bundle_folder / PLANS_FOLDER).glob(f"*{PLAN_SUFFIX}{REJECTED_SUFFIX}*")
    names = {path.name.removesuffix(RECORD_SUFFIX) for path in found}
    return sorted(name for name in names if name.endswith(REJECTED_SUFFIX))


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
