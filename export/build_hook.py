"""After an export: build the plan here, or say how to build it on the target."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vla_edge.export.screen.progress import note
from vla_edge.runtime.command.extras import is_installed
from vla_edge.runtime.errors import EngineError

if TYPE_CHECKING:
    from vla_edge.export.build.build import BuildResult

INSTALL = (
    "On the robot TensorRT comes with JetPack 6.1 or later; elsewhere: pip install 'vla-edge[tensorrt]'."
)


def refuse_if_impossible() -> None:
    """For who insists on a plan: say what is missing before the minutes of an export, not after them.

    Raises:
        EngineError: TensorRT or the GPU is missing.
    """
    if missing := _missing():
        raise EngineError(missing, INSTALL)


def build_here(folder: Path, wanted: bool | None) -> BuildResult | None:
    """Build a TensorRT plan where that is possible and wanted; say in one line why not.

    Args:
        folder: a finished bundle.
        wanted: True insists, False declines, None builds where a GPU and TensorRT are there.

    Returns:
        The plan; None where none was built.

    Raises:
        EngineError: insisted, and TensorRT or the GPU is missing; or the build failed.
        ParityError: the plan missed a gate and was set aside; the bundle itself stays.
    """
    if wanted is False:
        return None
    from vla_edge.runtime.command.console import stderr_console

    if wanted:
        refuse_if_impossible()
    elif missing := _missing():
        note(stderr_console(), _later(missing, folder))
        return None
    from vla_edge.export.build.build import build_plan
    from vla_edge.export.build.progress import ShownProgress
    from vla_edge.runtime.bundle.bundle import Bundle

    with ShownProgress(stderr_console()) as progress:
        return build_plan(Bundle.open(folder), progress=progress)


def _later(missing: str, folder: Path) -> str:
    """That there is no plan is as it should be on a workstation: a plan belongs to the GPU that it was built on."""
    why = f"no TensorRT plan yet: {missing[0].lower()}{missing[1:].rstrip('.')}"
    if not is_installed("tensorrt"):
        why = "no TensorRT here, as expected on a workstation"
    return f"{why}; build the plan on the robot: vla-build {shlex.quote(str(folder))}"


def _missing() -> str:
    """Why no plan can be built here; empty where one can."""
    if not is_installed("tensorrt"):
        return "the package tensorrt is not installed here."
    from vla_edge.export.build.target import open_target

    try:
        with open_target("tensorrt", 0, "cuda-bindings", None):
            return ""
    except EngineError as error:
        return error.problem
