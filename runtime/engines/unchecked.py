"""Plans that were built for a GPU elsewhere and have not run there yet: where no GPU is, "auto" does not take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.plan_names import backend_of, backend_option
from vla_edge.runtime.errors import EngineError


def is_unchecked(plan: Path, folder: Path) -> bool:
    """Whether a plan's side file says that its golden samples were never run.

    A side file that is missing or damaged says nothing: such a plan counts as one that somebody relies on.

    Args:
        plan: the plan, which is not opened.
        folder: of the bundle.
    """
    try:
        return read_record(plan, folder).verification.passed is None
    except EngineError:
        return False


def unchecked_warning(folder: Path, plans: Sequence[str]) -> str:
    """What to say when ONNX Runtime runs a bundle whose plans are for another machine.

    Args:
        folder: of the bundle.
        plans: their file names, at least one.
    """
    one = len(plans) == 1
    option = backend_option(backend_of(plans[0]) or DEFAULT_BACKEND)
    return (
        f"{folder} runs on the CPU: its {'plan' if one else 'plans'} {', '.join(plans)} "
        f"{'was' if one else 'were'} never checked, and this machine has no NVIDIA GPU to run "
        f"{'it' if one else 'them'}. On the machine with the GPU: vla-build --verify {folder}{option}"
    )
