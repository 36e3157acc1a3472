"""The node's parameters: one table for both transports, and the reader of ROS 2's YAML form.

vla_edge:
  ros__parameters:
    rate_hz: 10.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.control.loop.options import RunOptions
from vla_edge.runtime.control.options import ControllerOptions
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.regular_file import read_regular
from vla_edge.runtime.foreign import finite_number, shown
from vla_edge.runtime.images.reading import MAX_FILE_BYTES
from vla_edge.runtime.printable import one_line

from .topics import NODE

_MAX_YAML_BYTES = 1 << 16
_KEY = "ros__parameters"
_EVERY_NODE = "/**"
_SMALLEST_IMAGE_BYTES = 1 << 10


@dataclass(frozen=True)
class NodeParameters:
    """What the node may be told. 0 of a number that may be left out is: not used.

    Attributes:
        bundle: the folder of a bundle, where the command line names none.
        instruction: what to do until `/mobile_vla/task` says something else; empty for the bundle's default.
        autostart: whether it drives as soon as there are frames; else it waits for `start`.
        rate_hz: commands per second.
        deadline_ms: from a frame's capture to its command; a later one stops the robot.
        hold_ms: how long one command is followed at most; 0 for twice the deadline.
        camera_ms: longest time without a new frame.
        first_frame_ms: the same before the first one, and after a start.
        use_stamp: whether a frame was taken when its header says, by this machine's clock of day; else when it came.
        max_image_bytes: largest compressed image.
        acceleration: most that a component may grow per second, m/s^2; 0 for no limit. Braking has none.
        smoothing_ms: time constant of a low-pass over the actions; 0 for none.
        chunk_step_ms: time between two steps that the policy predicts, which are then played; 0 for the first only.
        watch_parent: whether the death of the process that started this one ends it, stopped.
        end_on_fault: whether the first fault ends it, stopped, instead of waiting for `reset`.
    """

    bundle: str = ""
    instruction: str = ""
    autostart: bool = False
    rate_hz: float = 10.0
    deadline_ms: float = 100.0
    hold_ms: float = 0.0
    camera_ms: float = 500.0
    first_frame_ms: float = 10_000.0
    use_stamp: bool = False
    max_image_bytes: int = 8 << 20
    acceleration: float = 0.0
    smoothing_ms: float = 0.0
    chunk_step_ms: float = 0.0
    watch_parent: bool = True
    end_on_fault: bool = False

    @property
    def held_ms(self) -> float:
        """How long one command is followed at most."""
        return self.hold_ms or 2 * self.deadline_ms

    def controller_options(self) -> ControllerOptions:
        """For `Controller`, which checks them."""
        return ControllerOptions(deadline_ms=self.deadline_ms, hold_ms=self.held_ms)

    def run_options(self, names: tuple[str, ...]) -> RunOptions:
        """For `Controller.run`, which checks them; the instruction is the node's own affair.

        Args:
            names: of the action's components.
        """
        return RunOptions(
            camera_ms=self.camera_ms,
            first_frame_ms=self.first_frame_ms,
            acceleration=dict.fromkeys(names, self.acceleration) if self.acceleration else None,
            smoothing_ms=self.smoothing_ms,
            chunk_step_ms=self.chunk_step_ms or None,
            watch_parent=self.watch_parent,
            end_on_fault=self.end_on_fault,
        )


def parameters_from(values: Mapping[str, Any], name: str) -> NodeParameters:
    """The parameters with these values, of the very types that ROS 2 would take.

    Args:
        values: by name.
        name: of where they come from.

    Raises:
        InputError: an unknown one, one of another type, or out of bounds.
    """
    known = {field.name: type(field.default) for field in fields(NodeParameters)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{name}: there is no parameter {shown(key)}.", f"There are {', '.join(known)}.")
        if type(value) is not known[key]:
            raise InputError(f"{name}: {key} is {shown(value)}.", f"Give {_WANTED[known[key]]}.")
        if isinstance(value, float) and (finite_number(value) is None or value < 0):
            raise InputError(f"{name}: {key} is {shown(value)}.", "Give a finite number of 0 or more.")
    found = NodeParameters(**values)
    if not _SMALLEST_IMAGE_BYTES <= found.max_image_bytes <= MAX_FILE_BYTES:
        raise InputError(
            f"{name}: max_image_bytes is {shown(found.max_image_bytes)}.",
            f"Give {_SMALLEST_IMAGE_BYTES} to {MAX_FILE_BYTES}.",
        )
    return found


_WANTED = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point, as 10.0: ROS 2 takes 10 for another type",
}


def read_parameters(path: Path) -> NodeParameters:
    """The parameters of this node in a file of ROS 2's form; those of `/**`, then those of its own name.

    Raises:
        InputError: the file cannot be read, is of another form, or a value cannot be used; names it.
        MissingPackageError: pyyaml is not installed.
    """
    sections = _sections(path)
    if not sections.keys() & {_EVERY_NODE, NODE, f"/{NODE}"}:
        raise InputError(f"{path} has no parameters of {NODE}.", f"Write them below {NODE}:, {_KEY}:.")
    mine = {field.name for field in fields(NodeParameters)}
    # those of every node may be meant for others
    values = {key: value for key, value in _of_node(sections, _EVERY_NODE, path).items() if key in mine}
    values |= _of_node(sections, NODE, path) | _of_node(sections, f"/{NODE}", path)
    return parameters_from(values, str(path))


def _of_node(sections: dict[Any, Any], node: str, path: Path) -> dict[Any, Any]:
    if node not in sections:
        return {}
    section = sections[node]
    found = section.get(_KEY) if isinstance(section, dict) else None
    if not isinstance(found, dict) or set(section) != {_KEY}:
        raise InputError(
            f"{path}: {node} holds something else than {_KEY} with parameters.",
            f"Write them below {node}:, {_KEY}:.",
        )
    return found


def _sections(path: Path) -> dict[Any, Any]:
    require("ros2", "yaml")
    import yaml

    from .plain_yaml import read_yaml

    try:
        found = read_yaml(_text_of(path), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Give a YAML file.") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = one_line(str(getattr(error, "problem", None) or type(error).__name__))
        raise InputError(f"{path}{line} is no YAML: {problem}.", "Write it as docs/ros2.md shows.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no table.", "Write it as docs/ros2.md shows.")
    return found


def _text_of(path: Path) -> str:
    content = read_regular(path.resolve(), _MAX_YAML_BYTES)  # colcon installs links
    if len(content) > _MAX_YAML_BYTES:
        raise InputError(f"{path} has more than {_MAX_YAML_BYTES} bytes.", "Give a file of parameters.")
    return content.decode("utf-8")
