"""What a user has told `vla-node`, as ROS is told it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def ros_arguments(
    bundle: Path, params_file: Path | None, remaps: Sequence[str], autostart: bool
) -> list[str]:
    """For `rclpy.init`.

    Args:
        bundle: its folder.
        params_file: in ROS 2's own form.
        remaps: such as `/cmd_vel:=/base/cmd_vel`.
        autostart: see `NodeParameters`.
    """
    found = ["--ros-args"]
    if params_file is not None:
        found += ["--params-file", str(params_file)]
    for rule in remaps:
        found += ["-r", rule]
    # text in quotes, so that a folder called 1.0 is none either
    quoted = "'" + str(bundle.absolute()).replace("'", "''") + "'"
    return [*found, "-p", f"bundle:={quoted}", "-p", f"autostart:={str(autostart).lower()}"]
