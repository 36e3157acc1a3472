"""TensorRT's Python module: finding it, its version, its logger and its error recorder.

TensorRT 10.x, 11.x and TensorRT-RTX share one Python API. Where they differ, this package asks whether
an attribute exists instead of comparing versions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from vla_edge.runtime.errors import EngineError, InputError

Backend = Literal["tensorrt", "tensorrt-rtx"]
DEFAULT_BACKEND: Backend = "tensorrt"  # of the commands
OLDEST_TENSORRT = 10

_log = logging.getLogger("vla_edge.tensorrt")


@dataclass(frozen=True)
class LibraryFacts:
    """What is known of a library before it is imported.

    Attributes:
        label: its name for people.
        module: its name for Python.
        install: how to get it.
        compiles_at_load: kernels are compiled where a plan is loaded. So it builds for GPUs that are not here,
            times none of them, and its plans are partly text.
    """

    label: str
    module: str
    install: str
    compiles_at_load: bool


LIBRARIES: dict[Backend, LibraryFacts] = {
    "tensorrt": LibraryFacts(
        label="TensorRT",
        module="tensorrt",
        install=(
            "Desktop: pip install tensorrt-cu12 (or -cu13 for driver 580 and later). "
            "Jetson: JetPack 6.1 or later brings it (sudo apt install python3-libnvinfer); "
            "a virtual environment needs --system-site-packages to see it."
        ),
        compiles_at_load=False,
    ),
    "tensorrt-rtx": LibraryFacts(
        label="TensorRT-RTX",
        module="tensorrt_rtx",
        install="pip install tensorrt-rtx (desktop GPUs of compute capability 7.5 to 12.x; not for Jetson).",
        compiles_at_load=True,
    ),
}


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        trt: the module `tensorrt` or `tensorrt_rtx`.
        version: such as "10.6.0"; engines run only on the version that built them.
    """

    backend: Backend
    trt: Any
    version: str

    @property
    def logger(self) -> Any:
        """The one logger of this library in this process; TensorRT ignores any later one."""
        return _logger(self.trt)

    def error_recorder(self) -> Any:
        """A new `trt.IErrorRecorder` with a method `text()`. Keep it as long as what it is attached to."""
        return _recorder_class(self.trt)()


def load_library(backend: Backend = DEFAULT_BACKEND) -> Library:
    """Import TensorRT.

    Raises:
        EngineError: it is not installed, cannot be loaded, or is older than 10.
        InputError: another backend's name.
    """
    if backend not in LIBRARIES:
        raise InputError(f"Unknown backend {backend!r}.", f"Use one of {', '.join(LIBRARIES)}.")
    facts = LIBRARIES[backend]
    name = facts.module
    try:
        trt = import_module(name)
    # A wheel without its libraries, or libraries of another version, fail in the dynamic linker's words.
    except (ImportError, OSError) as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        problem = "is not installed" if absent else f"cannot be loaded: {error}"
        raise EngineError(f"{facts.label} {problem}.", facts.install) from error
    if not hasattr(trt, "__version__"):  # any folder of that name can be imported
        where = ", ".join(getattr(trt, "__path__", [name]))
        raise EngineError(
            f"{facts.label} cannot be loaded: {where} holds something else of that name.",
            f"Move it away, or run elsewhere. {facts.install}",
        )
    library = Library(backend, trt, trt.__version__)
    check_version(library)
    return library


def check_version(library: Library) -> None:
    """Refuse TensorRT 8: it has no strongly typed networks and misreads reduce axes of opset 18.

    Raises:
        EngineError: with the JetPack or package to move to.
    """
    if library.backend == "tensorrt" and int(library.version.split(".")[0]) < OLDEST_TENSORRT:
        raise EngineError(
            f"TensorRT {library.version} is too old: it cannot build strongly typed networks.",
            "Move to TensorRT 10.3 or later: JetPack 6.1 or later on a Jetson, pip install tensorrt-cu12 elsewhere.",
        )


@cache
def _logger(trt: Any) -> Any:
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,  # a page per build: not what a user calls information
    }

    class PythonLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is not None and _log.isEnabledFor(level):
                _log.log(level, "%s", message)

    return PythonLogger()


@cache
def _recorder_class(trt: Any) -> type:
    class ErrorRecorder(trt.IErrorRecorder):
        """Keeps what TensorRT reports, so that an exception can say it. Called from any thread."""

        limit = 32

        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            self._errors: list[tuple[Any, str]] = []
            self._dropped = False

        def text(self) -> str:
            """What was reported since the last `clear`, as one line; empty when nothing was."""
            return "; ".join(description.strip() for _, description in self._errors)

        def clear(self) -> None:
            self._errors.clear()
            self._dropped = False

        def num_errors(self) -> int:
            return len(self._errors)

        def get_error_code(self, index: int) -> Any:
            return self._errors[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._errors[index][1]

        def has_overflowed(self) -> bool:
            return self._dropped

        def report_error(self, code: Any, description: str) -> bool:
            if len(self._errors) < self.limit:
                self._errors.append((code, description))
            else:
                self._dropped = True
            return False  # not fatal for TensorRT: the caller sees the failed status

    return ErrorRecorder
