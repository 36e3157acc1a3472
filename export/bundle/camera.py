"""A camera at the beginning of a graph: what was asked for, and its frames in place of the policy's pixels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vla_edge.export.family import Family
from vla_edge.runtime.bundle.manifest import (
    CAMERA_STAGE,
    FRAME,
    MAX_CAMERA_PX,
    MIN_CAMERA_PX,
    PIXELS,
    Camera,
    Preprocessing,
)
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

if TYPE_CHECKING:
    from vla_edge.export.graph.writer import GraphWriter, Value

_SIZE = re.compile(r"(h?)([0-9]{1,6})x(w?)([0-9]{1,6})")


def parse_camera(text: str, bgr: bool) -> Camera:
    """What `--camera HEIGHTxWIDTH` and `--bgr` say.

    Raises:
        InputError: no size, none of a camera's frame, or one that was most likely meant the other way round.
    """
    said = _SIZE.fullmatch(text)
    if said is None:
        raise InputError(
            f"--camera {one_line(text)} is no size of frames.", "Give height x width, such as 720x1280."
        )
    height, width = int(said[2]), int(said[4])
    if not all(MIN_CAMERA_PX <= side <= MAX_CAMERA_PX for side in (height, width)):
        raise InputError(
            f"--camera {text} is no size of a camera's frame: a side has {MIN_CAMERA_PX} to {MAX_CAMERA_PX} pixels.",
            "Give height x width, such as 720x1280.",
        )
    if height > width and not (said[1] and said[3]):
        raise InputError(
            f"--camera {text} is height x width: a frame that is {height} high and only {width} wide.",
            f"Give --camera {width}x{height}; if the camera does stand upright, say so: "
            f"--camera h{height}xw{width}.",
        )
    return Camera(height=height, width=width, channels="bgr" if bgr else "rgb")


def put_camera(graph: GraphWriter, family: Family, camera: Camera, spec: Preprocessing) -> None:
    """Let a graph that takes pixels take a camera's frames, uint8 [B, height, width, 3]; what it had stays as it is.

    The pixels keep their name, so that the parts that follow are the same with every camera and without. They are a
    cut and the first stage, both called "camera".

    Args:
        graph: as a family writes it.
        family: whose it is.
        camera: whose frames.
        spec: from a frame to pixels.

    Raises:
        InputError: the family's graph has something of these names already.
    """
    from vla_edge.export.graph.resize import write_frame

    names = {*graph.stages, *graph.cuts}
    if CAMERA_STAGE in names or any(value.name == FRAME for value in (*graph.inputs, *graph.outputs)):
        raise InputError(
            f"the family {family.name!r} cannot be exported with a camera: its graph has a stage or cut "
            f"{CAMERA_STAGE!r}, or an input or output {FRAME!r}.",
            "Call it otherwise.",
        )
    batch = next(value for value in graph.inputs if value.name == PIXELS).shape[0]

    def write() -> Value:
        frame = graph.input(FRAME, "uint8", (batch, camera.height, camera.width, 3))
        return write_frame(graph, frame, spec, camera.channels, PIXELS)

    graph.precompute(PIXELS, CAMERA_STAGE, write)
