"""`vla-drive`: from a camera to a robot, at a fixed rate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    print_error,
    run_command,
    verbose_option,
)
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.result_file import check_output, result_file
from vla_edge.runtime.engine_options import EngineArguments, engine_options
from vla_edge.runtime.episodes.options import (
    RecordingArguments,
    recording_options,
    refuse_in_place_of_actions,
)
from vla_edge.runtime.process.parent import require_parent
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.runtime.control.controller import Controller
    from vla_edge.runtime.control.loop.health import Health
    from vla_edge.runtime.control.loop.options import RunOptions
    from vla_edge.runtime.policy import Policy
    from vla_edge.runtime.show.places import Place
    from vla_edge.runtime.show.show import Show


_Milliseconds = FiniteFloat(min=0, min_open=True)


def _place(_context: click.Context, _option: click.Parameter, said: str | None) -> Place | None:
    from vla_edge.runtime.show.places import place_of

    return None if said is None else place_of(said)


def _camera(context: click.Context, _option: click.Parameter, said: str | None) -> str | None:
    if said is None and not context.resilient_parsing:
        raise click.UsageError(
            "Missing option '--camera'. Give a recording to try it, as --camera drive.mp4; --camera 0; or an rtsp://..."
        )
    return said


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--camera",
    callback=_camera,
    metavar="CAMERA",
    help="A number or /dev/video0, rtsp://..., or a recording: a video, a folder of images, HDF5, a bag.  [required]",
)
@click.option(
    "--robot",
    default="print",
    show_default=True,
    metavar="ROBOT",
    help="print: nothing moves; udp://HOST:PORT, which gets each command as a datagram; or ros2, a Twist on /cmd_vel, "
    "ros2:/another/topic (extra: ros2).",
)
@click.option(
    "--rate",
    "rate_hz",
    type=FiniteFloat(min=0, min_open=True, max=1000),
    default=10.0,
    show_default=True,
    metavar="HZ",
    help="Commands per second.",
)
@click.option("--instruction", metavar="TEXT", help="What to do, instead of the recording's or the bundle's.")
@click.option(
    "--deadline",
    "deadline_ms",
    type=_Milliseconds,
    default=100.0,
    show_default=True,
    metavar="MS",
    help="From a frame's capture to its command; a later one stops the robot.",
)
@click.option(
    "--hold",
    "hold_ms",
    type=_Milliseconds,
    metavar="MS",
    help="How long one command is followed at most. [default: twice the deadline]",
)
@click.option(
    "--acceleration",
    type=FiniteFloat(min=0, min_open=True),
    metavar="X",
    help="How much each component may grow per second, in its unit per second. Braking is not limited.",
)
@click.option(
    "--smoothing",
    "smoothing_ms",
    type=FiniteFloat(min=0),
    default=0.0,
    metavar="MS",
    help="Time constant of a low-pass over the actions. [default: none]",
)
@click.option(
    "--chunk-step",
    "chunk_step_ms",
    type=_Milliseconds,
    metavar="MS",
    help="Play the steps that the policy predicts, this far apart, until a newer action comes.",
)
@recording_options("--camera FILE", skips=False, actions=False)
@click.option(
    "--camera-size",
    metavar="WxH",
    help="Ask a device for frames of this size, width first (vla-export has height first).",
)
@click.option("--end-on-fault", is_flag=True, help="End at the first fault, instead of waiting for Enter.")
@click.option(
    "--outlive-parent", is_flag=True, help="Drive on when the process that started this one has ended."
)
@click.option(
    "--metrics",
    "metrics_port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Answer Prometheus at this port, to this machine alone (extra: metrics).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write each command to FILE: .csv, .jsonl or .ndjson. It appears at the end; of a run that a signal or an "
    "error ends it is kept in FILE.partial.",
)
@click.option(
    "--show",
    is_flag=False,
    flag_value="viewer",
    metavar="[PLACE]",
    callback=_place,
    is_eager=True,  # a bundle that was taken for a place is told before it is missed
    help="Show frames, commands and latency in the Rerun viewer (extra: rerun): alone, it is opened here; FILE.rrd, "
    "to look at later (15 MB a minute); rerun+http://HOST:9876, where `rerun` runs on a machine with a screen.",
)
@engine_options
@verbose_option
@click.version_option(VERSION, prog_name="vla-drive")
def command(
    bundle: Path,
    camera: str,
    robot: str,
    rate_hz: float,
    instruction: str | None,
    deadline_ms: float,
    hold_ms: float | None,
    camera_size: str | None,
    metrics_port: int | None,
    output: Path | None,
    show: Place | None,
    engine: EngineArguments,
    recordings: RecordingArguments,
    **loop: Any,
) -> int:
    """Drive ROBOT by the policy in BUNDLE, on what CAMERA sees.

    The first command and the last one are stops. A fault (of camera, frame, engine, clock, robot; a late command)
    stops the robot until Enter is pressed. Ctrl-C, SIGTERM and SIGHUP stop it and end. On SIGKILL and a power cut
    nothing can be sent: the robot must stop by itself when no command comes.

    The exit code is 0 when a recording was driven to its end; 1 when a fault stood then, or ended it.

    \b
    Examples:
      vla-drive engines/pure-fp16 --camera drive.mp4 --deadline 1000 -o log.csv
      vla-drive engines/pure-fp16 --camera 0 --robot udp://192.168.1.20:5005
      vla-drive engines/pure-fp16 --camera rtsp://cam/1 --show drive.rrd
    """
    from vla_edge.runtime.bundle.bundle import Bundle
    from vla_edge.runtime.control.warm_policy import warm_policy

    from .cameras import in_order, open_camera
    from .output_file import SUFFIXES

    if output:
        check_output(output, SUFFIXES)
        refuse_in_place_of_actions(output)
    taken = Bundle.open(bundle, "size").manifest.camera
    eye = open_camera(camera, rate_hz, camera_size, taken, recordings.choice)
    with warm_policy(bundle, engine) as policy:
        from vla_edge.runtime.control.controller import Controller, ControllerOptions

        controller = Controller(policy, ControllerOptions(deadline_ms=deadline_ms, hold_ms=hold_ms))
        text = (instruction or eye.instruction) if policy.instructions else None
        if text:
            policy.check_instruction(text)
        options = _run_options(policy, text, **loop)
        held_ms = 2 * deadline_ms if hold_ms is None else hold_ms
        about = (f"camera: {camera}, robot: {robot}",)
        with (
            _shown(show, controller, policy, deadline_ms, about) as looker,
            _outputs(controller, policy, robot, held_ms, output, metrics_port, looker) as send,
        ):
            seen = eye if looker is None else looker.watching(eye)
            if options.watch_parent:
                require_parent("Nothing was driven. To drive on without it: --outlive-parent.")
            health = controller.run(in_order(seen, policy), send, rate_hz, options)
    return _code(health)


def _run_options(
    policy: Policy,
    instruction: str | None,
    *,
    acceleration: float | None,
    outlive_parent: bool,
    **same: Any,
) -> RunOptions:
    from vla_edge.runtime.control.loop.options import RunOptions

    names = policy.manifest.action.names
    growth = None if acceleration is None else dict.fromkeys(names, acceleration)
    return RunOptions(instruction, acceleration=growth, watch_parent=not outlive_parent, **same)


@contextlib.contextmanager
def _shown(
    place: Place | None, controller: Controller, policy: Policy, deadline_ms: float, about: tuple[str, ...]
) -> Iterator[Show | None]:
    """What shows the drive, if that is wanted."""
    if place is None:
        yield None
        return
    from vla_edge.runtime.show.show import Drive, Show

    action, engine = policy.manifest.action, policy.identity
    about = (f"bundle: {policy.manifest.name}, engine: {engine.backend} on {engine.device}", *about)
    drive = Drive(action.names, action.units, action.limit, deadline_ms, about)
    with Show(place, drive, controller.health, lambda text: click.echo(text, err=True)) as show:
        yield show
    click.echo(show.summary(), err=True)


@contextlib.contextmanager
def _outputs(
    controller: Controller,
    policy: Policy,
    robot: str,
    hold_ms: float,
    output: Path | None,
    metrics_port: int | None,
    show: Show | None,
) -> Iterator[Any]:
    """Where commands go, and who is told of them."""
    from .keyboard import reset_on_enter
    from .metrics import served
    from .output_file import writers
    from .painting import Painter
    from .robots import open_robot
    from .screen import Screen
    from .watching import Watched

    action = policy.manifest.action
    painter = Painter(Screen(action.names, action.units, controller.health, reset_on_enter(controller)))
    with (
        contextlib.closing(open_robot(robot, action.names, action.units, hold_ms)) as wheels,
        served(metrics_port, controller.health),
        result_file(output, writers(action)) as write,
    ):
        with painter, Watched(wheels, write, (painter, show.sent) if show else (painter,)) as watched:
            yield watched
        if watched.error is not None:
            raise watched.error
        if watched.dropped:
            click.echo(f"{watched.dropped} commands were not written: the disk was too slow.", err=True)
    if painter.error is not None:
        raise painter.error


def _code(health: Health) -> int:
    from vla_edge.runtime.control.causes import Cause
    from vla_edge.runtime.errors import VlaError

    from .screen import what_to_do

    if health.cause is Cause.END:
        return 0
    print_error(VlaError(f"the robot is stopped: {health.reason}", " ".join(what_to_do(health))))
    return 1


def main() -> None:
    """Entry point of `vla-drive`."""
    run_command(command)


if __name__ == "__main__":
    main()
