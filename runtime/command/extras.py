"""Packages that not every installation has, and the extra of vla-edge that brings each."""

from __future__ import annotations

import importlib.util
import platform
import sys

from vla_edge.runtime.errors import MissingPackageError

# Import name -> extra, as in pyproject.toml.
EXTRA_OF = {
    "av": "episodes",
    "cuda": "tensorrt",
    "cyclonedds": "ros2",
    "h5py": "episodes",
    "jinja2": "page",
    "mcap": "episodes",
    "onnx": "export",
    "onnxruntime": "onnxruntime",
    "open_clip": "export",
    "prometheus_client": "metrics",
    "psutil": "bench",
    "pyarrow": "episodes",
    "pycuda": "pycuda",
    "pynvml": "bench",
    "rerun": "rerun",
    "scipy": "bench",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "tokenizers": "export",
    "torch": "export",
    "transformers": "export",
    "yaml": "export",
}
# What an extra brings of another one.
_HOLDS = {
    "camera": ("episodes",),
    "bench": ("export", "onnxruntime", "page"),
    "ros2": ("export",),
}


def require(extra: str, *modules: str) -> None:
    """Refuse to begin where a package is missing; nothing is imported.

    Args:
        extra: what a user of the command installs.
        modules: by the names that they are imported by.

    Raises:
        MissingPackageError: names all that are missing, and the extras to install.
    """
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        raise missing_packages(missing, extra)


def missing_packages(modules: list[str], extra: str | None = None) -> MissingPackageError:
    """The error for packages that are missing.

    Args:
        modules: by their import names, all in `EXTRA_OF`.
        extra: to install first; None takes those of the packages alone.
    """
    extras = dict.fromkeys([extra] if extra else [])
    extras |= {EXTRA_OF[name]: None for name in modules if EXTRA_OF[name] not in _HOLDS.get(extra or "", ())}
    names = f"{', '.join(modules[:-1])} and {modules[-1]} are" if modules[1:] else f"{modules[0]} is"
    hint = f"pip install 'vla-edge[{','.join(extras)}]'"
    if "cyclonedds" in modules and platform.machine() in ("aarch64", "arm64"):
        hint = f"It has no wheel for this machine: vla-node --transport rclpy, or build it (docs/ros2.md), then {hint}"
    return MissingPackageError(f"{names} not installed here.", hint)


def is_installed(module: str) -> bool:
    """Whether a top-level module could be imported; it is not."""
    if sys.modules.get(module) is not None:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # an import hook that hides it
        return False
