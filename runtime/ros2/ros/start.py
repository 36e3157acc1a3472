"""Where the managed node begins: `ros2 run vla_edge_ros node`, or `vla-node --transport rclpy`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

import vla_edge.runtime.process.parent  # noqa: F401  # looks up who has started this, before anything slow
from vla_edge.runtime.command.console import print_error, run_command
from vla_edge.runtime.engine_options import EngineArguments
from vla_edge.runtime.errors import MissingPackageError, VlaError

# Its help is -h alone: what else there is goes to ROS.
_SETTINGS = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": True, "max_content_width": 110}


def start(arguments: Sequence[str], engine: EngineArguments, *, begin: bool) -> int:
    """Run the node; the process's exit code.

    Args:
        arguments: of ROS, from `--ros-args` on.
        engine: for `Policy.load`.
        begin: whether it configures and activates itself.

    Raises:
        MissingPackageError: ROS 2 is not here.
        VlaError: it was to begin and could not.
    """
    try:
        importlib.import_module("rclpy")
    except ImportError as error:
        raise MissingPackageError(
            f"rclpy cannot be imported: {error}.",
            "Source ROS 2 first (source /opt/ros/humble/setup.bash), or take --transport dds.",
        ) from error
    from .node import drive_in_ros

    health = drive_in_ros(arguments, engine, begin=begin)
    if health is None:
        return 0
    print_error(VlaError(f"the robot is stopped: {health.reason}"))
    return 1


@click.command(context_settings=_SETTINGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[--ros-args ...]")
def command(arguments: tuple[str, ...]) -> int:
    """The node vla_edge, as a managed node of ROS 2: configure it, then activate it.

    Its parameters are those of docs/ros2.md; bundle is needed. "start" on /mobile_vla/system_control lets it drive.

    \b
    Examples:
      ros2 run vla_edge_ros node --ros-args -p bundle:=DIR
      ros2 lifecycle set /vla_edge configure
      ros2 lifecycle set /vla_edge activate
    """
    return start(arguments, {}, begin=False)


def main() -> None:
    """Entry point of the ROS package."""
    run_command(command)


if __name__ == "__main__":
    main()
