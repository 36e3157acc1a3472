"""What every engine offers to `Policy`: buffers bound once, one call to run them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

MAX_DEVICE_INDEX = 1023

HostWork = Callable[[], object]


def nothing() -> None:
    """The host has nothing to do while the engine runs."""


@dataclass(frozen=True)
class EngineIdentity:
    """Which engine really runs. Travels with every action, so that a log tells what moved the robot.

    Attributes:
        backend: "onnxruntime", "tensorrt" or "tensorrt-rtx".
        version: of the backend's library.
        device: such as "cpu: AMD EPYC (2 threads)" or "cuda:0 NVIDIA H200 (sm90)".
        provider: the execution provider or plan file that runs.
        precision: of the graph, "fp16" or "fp32".
        compute: how the device does that arithmetic, when it differs: "fp32 (CPU widens fp16)".
        bundle: the bundle's name and the first 12 digits of its manifest's SHA-256.
    """

    backend: str
    version: str
    device: str
    provider: str
    precision: str
    compute: str
    bundle: str

    def __str__(self) -> str:
        return one_line(f"{self.backend} {self.version} {self.precision} on {self.device} [{self.bundle}]")


def require_whole(name: str, value: object, least: int, most: int) -> None:
    """Refuse an option that is no whole number from `least` to `most`; NumPy's are.

    Raises:
        InputError: names the option.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise InputError(f"{name}={value!r} is refused.", f"Give a whole number from {least} to {most}.")


class Session(Protocol):
    """A loaded engine with its buffers.

    `inputs` and `outputs` are NumPy arrays over the engine's own host buffers (pinned where the engine
    is a GPU's). The caller fills `inputs` in place, calls `run`, and reads `outputs`; nothing is
    allocated in between. A session belongs to one thread at a time.
    """

    identity: EngineIdentity

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """Arrays to fill in place, by input name."""

    @property
    def outputs(self) -> Mapping[str, np.ndarray]:
        """Arrays that hold the result after `run`, until the next."""

    def run(self, host_work: HostWork = nothing) -> None:
        """Run the engine once on what `inputs` holds; returns when `outputs` holds the result.

        Args:
            host_work: work of the host that needs no output: done while a GPU runs the engine, before the
                engine where that is the host itself. It must not touch the session. What it raises is
                raised here, once the engine has ended.

        Raises:
            EngineError: the engine failed, or the session is closed.
        """

    def close(self) -> None:
        """Free the engine and its buffers. Calling it again does nothing."""
