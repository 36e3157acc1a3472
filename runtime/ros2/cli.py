"""`vla-node`: a policy between a camera's topic and `/cmd_vel`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, print_error, run_command, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.engine_options import EngineArguments, engine_options
from vla_edge.runtime.errors import InputError, VlaError
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.runtime.control.loop.health import Health

    from .parameters import NodeParameters
    from .topics import Topics


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--params",
    "params_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Parameters in ROS 2's YAML form: vla_edge, ros__parameters.",
)
@click.option(
    "-r",
    "--remap",
    "remaps",
    multiple=True,
    metavar="FROM:=TO",
    help="Another name of a topic, such as /cmd_vel:=/robot/cmd_vel.",
)
@click.option(
    "--autostart/--no-autostart",
    default=None,
    help="Drive as soon as there are frames, without waiting for start.  [default: as FILE says, else wait]",
)
@click.option(
    "--transport",
    type=click.Choice(["dds", "rclpy"]),
    default="dds",
    show_default=True,
    help="dds needs no ROS, but cyclonedds, of which a Jetson has no wheel; rclpy is ROS' own, where it is installed.",
)
@engine_options
@verbose_option
@click.version_option(VERSION, prog_name="vla-node")
def command(
    bundle: Path | None,
    params_file: Path | None,
    remaps: tuple[str, ...],
    autostart: bool | None,
    transport: str,
    engine: EngineArguments,
) -> int:
    """Drive /cmd_vel by the policy in BUNDLE, on what comes on /camera/image/compressed.

    It speaks to ROS 2's nodes straight on DDS; ROS itself need not be installed. It waits until "start" comes on
    /mobile_vla/system_control; "stop" stops, and so does any fault, until "reset" and "start". The first velocity and
    the last one are zero.

    The domain is that of ROS_DOMAIN_ID; ROS_LOCALHOST_ONLY and CYCLONEDDS_URI are heeded. The exit code is 1 when a
    fault has ended it.

    \b
    Examples:
      vla-node engines/pure-fp16
      vla-node engines/pure-fp16 --params node.yaml -r /cmd_vel:=/base/cmd_vel
      ros2 topic pub --once /mobile_vla/system_control \\
        std_msgs/msg/String 'data: start'
    """
    if transport == "dds":
        require("ros2", "cyclonedds")
    from .parameters import NodeParameters, read_parameters
    from .topics import Topics, remapped

    parameters = read_parameters(params_file) if params_file else NodeParameters()
    if autostart is not None:
        parameters = replace(parameters, autostart=autostart)
    topics = remapped(Topics(), remaps)
    folder = _bundle(bundle, parameters)
    if transport == "dds":
        return _code(_driven(folder, engine, parameters, topics))
    from .ros.arguments import ros_arguments
    from .ros.start import start

    return start(ros_arguments(folder, params_file, remaps, parameters.autostart), engine, begin=True)


def _bundle(given: Path | None, parameters: NodeParameters) -> Path:
    if given is not None:
        return given
    if not parameters.bundle:
        raise InputError("no bundle is named.", "Give its folder, or the parameter bundle in --params FILE.")
    return Path(parameters.bundle)


def _driven(bundle: Path, engine: EngineArguments, parameters: NodeParameters, topics: Topics) -> Health:
    from vla_edge.runtime.control.warm_policy import warm_policy

    from .dds.transport import DdsTransport
    from .node import Node

    # The transport first: its zero velocity does not wait for an engine that takes minutes to load. It is closed
    # before the policy, too, whose engine may hang.
    with (
        contextlib.closing(DdsTransport(topics, parameters.max_image_bytes)) as transport,
        warm_policy(bundle, engine) as policy,
        contextlib.closing(transport),
    ):
        node = Node(policy, transport, parameters, topics)
        click.echo(f"drives {topics.velocity} on what comes on {topics.image}", err=True)
        if not parameters.autostart:
            click.echo(f'waits for "start" on {topics.control}', err=True)
        return node.run()


def _code(health: Health) -> int:
    print_error(VlaError(f"the robot is stopped: {health.reason}"))
    return 1


def main() -> None:
    """Entry point of `vla-node`."""
    run_command(command)


if __name__ == "__main__":
    main()
