"""The action that a policy returns, and how it is made from the graph's output."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec, shared_unit
from vla_edge.runtime.engines.session import EngineIdentity

from .errors import NonFiniteActionError


@dataclass(frozen=True)
class Action:
    """A command for the robot, and how it came about.

    Each component is also an attribute by its name: `action.linear_x`.

    Attributes:
        names: of the components.
        units: of the components, such as "m/s".
        values: the command now, each component in its unit, clamped to the limits: `chunk[0]`.
        raw: the graph's own output for it, before scale, offset and limits.
        clamped: whether a limit changed a value of `values`.
        held: whether this is the episode's first action, repeated (policies trained on first frames).
        chunk: all steps that the policy predicts, clamped; [steps][components].
        instruction: that was followed; None of a policy without text.
        engine: that computed it.
        timings_ms: "preprocess", "engine" and "total", wall clock.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: tuple[float, ...]
    raw: tuple[float, ...]
    clamped: bool
    held: bool
    chunk: tuple[tuple[float, ...], ...]
    instruction: str | None
    engine: EngineIdentity
    timings_ms: dict[str, float]

    def __getattr__(self, name: str) -> float:
        # Called only where ordinary lookup fails; copies look up dunders before any field is set.
        names = self.__dict__.get("names", ())
        if name in names:
            return self.values[names.index(name)]
        raise AttributeError(f"the action has no component {name!r}; it has {', '.join(names)}")

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types: `action` maps names to values, `units` to what these are in.

        `unit` is that of all components, None where they differ.
        """
        return {
            "action": dict(zip(self.names, self.values, strict=True)),
            "unit": shared_unit(self.units),
            "units": dict(zip(self.names, self.units, strict=True)),
            "raw": list(self.raw),
            "clamped": self.clamped,
            "held": self.held,
            "chunk": [list(step) for step in self.chunk],
            "instruction": self.instruction,
            "engine": dataclasses.asdict(self.engine),
            "timings_ms": dict(self.timings_ms),
        }


class ActionDecoder:
    """Applies scale, offset and limits of the manifest, in double precision.

    In plain Python: an action is a handful of numbers, where each NumPy call would cost more than its work.
    """

    def __init__(self, spec: ActionSpec) -> None:
        self._names, self._units = spec.names, spec.units
        self._scale, self._offset, self._limit = spec.scale, spec.offset, spec.limit

    def __call__(
        self,
        output: np.ndarray,
        *,
        instruction: str | None,
        engine: EngineIdentity,
        timings_ms: dict[str, float],
    ) -> Action:
        """Make the action of one call.

        Args:
            output: the graph's `actions` for one frame, float32 [steps, components]; copied.
            instruction: that was followed, if any.
            engine: that computed it.
            timings_ms: kept as it is.

        Raises:
            NonFiniteActionError: NaN or infinity among them.
        """
        steps: list[list[float]] = output.tolist()
        commands = [self._command(step, instruction) for step in steps]
        chunk = tuple(self._clamp(command) for command in commands)
        return Action(
            names=self._names,
            units=self._units,
            values=chunk[0],
            raw=tuple(steps[0]),
            clamped=chunk[0] != commands[0],
            held=False,
            chunk=chunk,
            instruction=instruction,
            engine=engine,
            timings_ms=timings_ms,
        )

    def _command(self, step: list[float], instruction: str | None) -> tuple[float, ...]:
        """Scaled and shifted, not clamped yet."""
        scaling = zip(step, self._scale, self._offset, strict=True)
        command = tuple([value * scale + offset for value, scale, offset in scaling])
        if all(map(math.isfinite, command)):
            return command
        shown = dict(zip(self._names, step, strict=True))
        told = "" if instruction is None else f" for {instruction!r}"
        raise NonFiniteActionError(
            f"the engine returned an action that is not finite: {shown}{told}.",
            "Stop the robot. Look at the frame that caused it, then call reset() before the next act().",
        )

    def _clamp(self, command: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(
            [max(-limit, min(limit, value)) for value, limit in zip(command, self._limit, strict=True)]
        )
