"""After an export: build the plan here, or say how to build it on the target."""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.extras import is_installed

INSTALL = (
    "On the robot TensorRT comes with JetPack 6.1 or later; elsewhere: pip install 'vla-edge[tensorrt]'."
)


def build_here(folder: Path, wanted: bool | None) -> None:
    """Build a TensorRT plan where that is possible and wanted; say in one line how otherwise.

    Args:
        folder: a finished bundle.
        wanted: True insists, False declines, None builds where a GPU and TensorRT are there.

    Raises:
        EngineError: insisted, and TensorRT or the GPU is missing; or the build failed.
        ParityError: the plan missed a gate and was set aside; the bundle itself stays.
    """
    if wanted is False:
        return
    if wanted:
        require_builder()
    if missing := _missing():
        click.echo(f"no TensorRT plan built: {missing} On the target: vla-build {folder}", err=True)
        return
    from vla_edge.runtime.bundle import Bundle
    from vla_edge.runtime.console import stderr_console

    from .build import build_plan
    from .build_progress import ShownProgress

    with ShownProgress(stderr_console()) as progress:
        result = build_plan(Bundle.open(folder), progress=progress)
    facts, checked = result.record.build, result.record.verification
    click.echo(f"{result.path}  built in {facts.seconds:.0f} s; {checked.note}")


def require_builder() -> None:
    """Raise EngineError where no plan can be built here: before an export's minutes, not after them."""
    if missing := _missing():
        raise EngineError(missing, INSTALL)


def _missing() -> str:
    """Why no plan can be built here; empty where one can."""
    if not is_installed("tensorrt"):
        return "the package tensorrt is not installed here."
    from .build_target import open_target

    try:
        with open_target("tensorrt", 0, "cuda-bindings", None):
            return ""
    except EngineError as error:
        return error.problem
