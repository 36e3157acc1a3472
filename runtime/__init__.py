"""Run exported policies: `Policy.load(folder)`, then `.act(frame)`.

Everything is imported on first use, so that `import vla_edge.runtime` is instant.
"""

from __future__ import annotations

from .version import VERSION

# As in `typing`, whose import takes longer than all else here: a command must be quick to handle Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vla_edge.runtime.bundle.bundle import Bundle, find_bundles, load_golden
    from vla_edge.runtime.control.controller import Command, Controller, ControllerOptions
    from vla_edge.runtime.control.exits.stop_on_exit import stop_on_exit
    from vla_edge.runtime.control.loop.health import Health
    from vla_edge.runtime.control.loop.options import RunOptions
    from vla_edge.runtime.control.loop.protocols import Captured
    from vla_edge.runtime.cuda.opening import open_device
    from vla_edge.runtime.engines.choice import open_session
    from vla_edge.runtime.episodes.episode import Episode
    from vla_edge.runtime.episodes.opening import open_episodes

    from .action import Action
    from .batch import BatchPolicy
    from .errors import (
        BundleError,
        EngineError,
        EpisodeError,
        ImageError,
        InputError,
        InstructionError,
        NonFiniteActionError,
        VlaError,
    )
    from .policy import Policy
    from .preprocess import Preprocessor

__version__ = VERSION

_HOME = {
    "Action": "action",
    "BatchPolicy": "batch",
    "Bundle": "bundle.bundle",
    "BundleError": "errors",
    "Captured": "control.loop.protocols",
    "Command": "control.controller",
    "Controller": "control.controller",
    "ControllerOptions": "control.controller",
    "EngineError": "errors",
    "Episode": "episodes.episode",
    "EpisodeError": "errors",
    "Health": "control.loop.health",
    "ImageError": "errors",
    "InputError": "errors",
    "InstructionError": "errors",
    "NonFiniteActionError": "errors",
    "Policy": "policy",
    "Preprocessor": "preprocess",
    "RunOptions": "control.loop.options",
    "VlaError": "errors",
    "find_bundles": "bundle.bundle",
    "load_golden": "bundle.bundle",
    "open_device": "cuda.opening",
    "open_episodes": "episodes.opening",
    "open_session": "engines.choice",
    "stop_on_exit": "control.exits.stop_on_exit",
}

__all__ = [
    "Action",
    "BatchPolicy",
    "Bundle",
    "BundleError",
    "Captured",
    "Command",
    "Controller",
    "ControllerOptions",
    "EngineError",
    "Episode",
    "EpisodeError",
    "Health",
    "ImageError",
    "InputError",
    "InstructionError",
    "NonFiniteActionError",
    "Policy",
    "Preprocessor",
    "RunOptions",
    "VlaError",
    "__version__",
    "find_bundles",
    "load_golden",
    "open_device",
    "open_episodes",
    "open_session",
    "stop_on_exit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
