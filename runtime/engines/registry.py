"""The engines that run bundles: an entry each, and no other list of them anywhere.

Read by the help of commands, so nothing heavy is imported here: what an engine needs is, once it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vla_edge.runtime.command.extras import is_installed
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES, Backend, load_library
from vla_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.bundle import Bundle

    from .session import Session

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Engine:
    """One way to run a bundle.

    Attributes:
        name: for `--backend`, `Policy.load` and the session's identity.
        label: for people.
        package: which module must be there; `extras.EXTRA_OF` knows what installs it.
        reads: what of a bundle it opens: its graph with the weights, or the plans that `vla-build` made of them.
        devices: where it can run. One that runs on a CPU takes the options `threads` and `provider`.
        load_library: imports what it needs and returns its version; raises `EngineError` where it cannot.
        open: makes a session of an opened bundle and of keywords, the fields of the engine's options.
    """

    name: str
    label: str
    package: str
    reads: Literal["graph", "plans"]
    devices: tuple[Device, ...]
    load_library: Callable[[], str]
    open: Callable[[Bundle, Mapping[str, Any]], Session]

    def is_installed(self) -> bool:
        """Whether its package is found; it is not imported."""
        return is_installed(self.package)


def make_options(kind: type[Any], options: Mapping[str, Any]) -> Any:
    """An engine's options from keywords.

    Raises:
        InputError: names a keyword that is none of them.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is no option of this engine.", f"{kind.__name__} has {', '.join(known)}."
        )
    return kind(**options)


def _load_onnxruntime() -> str:
    from .onnxruntime import import_onnxruntime

    return str(import_onnxruntime().__version__)


def _open_onnxruntime(bundle: Bundle, options: Mapping[str, Any]) -> Session:
    from .onnxruntime import OnnxRuntimeOptions, OnnxRuntimeSession

    return OnnxRuntimeSession(bundle, make_options(OnnxRuntimeOptions, options))


def _load_tensorrt(name: Backend) -> str:
    return load_library(name).version


def _open_tensorrt(name: Backend, bundle: Bundle, options: Mapping[str, Any]) -> Session:
    from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession

    return TensorRtSession(bundle, make_options(TensorRtOptions, {"backend": name, **options}))


_KNOWN = (
    Engine(
        name="onnxruntime",
        label="ONNX Runtime",
        package="onnxruntime",
        reads="graph",
        devices=("cpu", "cuda"),
        load_library=_load_onnxruntime,
        open=_open_onnxruntime,
    ),
    *(
        Engine(
            name=name,
            label=library.label,
            package=library.module,
            reads="plans",
            devices=("cuda",),
            load_library=partial(_load_tensorrt, name),
            open=partial(_open_tensorrt, name),
        )
        for name, library in LIBRARIES.items()
    ),
)
# By name; of several that read plans, the usual one first.
ENGINES: dict[str, Engine] = {engine.name: engine for engine in _KNOWN}
# What "auto" stands for where a bundle has no plans.
WITHOUT_PLANS = "onnxruntime"
