"""A drive past boxes to a cup, as a camera on the robot would see it: what moves, moves by the actions.

A pinhole camera over a chequered floor. Nothing of it is photographed; what is honest is that frame t is what
stands before the robot when action t begins, so that a recording's frames and actions belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

STEP_S = 0.3  # between two frames: 18 of them are a drive of 5.4 s
TOP_SPEED_MPS = 1.15  # as the policies' recordings were driven
_SLOWEST_MPS = 0.8

_CAMERA_HEIGHT_M = 0.45
_FOCAL = 0.7  # of the image's width
_HORIZON = 0.42  # of the image's height
_NEAREST_M = 0.15
_TILE_M = 0.5
_CUP_AT_M = 6.5
_FIRST_BOX_M, _BETWEEN_BOXES_M = 2.4, 1.6
_FURTHEST_M = 30.0
_BOX_M = {"vert": (0.4, 0.7), "hori": (0.7, 0.4)}  # width, height
_CUP_M = (0.12, 0.16)


@dataclass(frozen=True)
class Thing:
    """Something that stands on the floor: where (ahead, left; metres), how large, of which colour."""

    ahead_m: float
    left_m: float
    width_m: float
    height_m: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Drive:
    """What happens in an episode.

    Attributes:
        things: that stand there, far ones first.
        actions: float32 [T, 3], m/s ahead and to the left, rad/s.
        floor: two colours of its tiles, uint8 [2, 3].
    """

    things: tuple[Thing, ...]
    actions: np.ndarray
    floor: np.ndarray


def plan_drive(scenario: str, frames: int, numbers: np.random.Generator) -> Drive:
    """A drive around the boxes of a scenario, such as "2box_hori_left", on the side that it names.

    Out to the side, past, back in to the cup, each a third of the time.
    """
    boxes, pose, side = scenario.split("_")
    width_m, height_m = _BOX_M[pose]
    things = [Thing(_CUP_AT_M, 0.0, *_CUP_M, (225, 225, 235))]
    for number in reversed(range(int(boxes[0]))):
        colour = tuple(int(value) for value in numbers.integers((120, 70, 30), (190, 120, 70)))
        ahead_m = _FIRST_BOX_M + number * _BETWEEN_BOXES_M + numbers.uniform(-0.2, 0.2)
        red, green, blue = colour
        things.append(
            Thing(ahead_m, float(numbers.uniform(-0.1, 0.1)), width_m, height_m, (red, green, blue))
        )
    sign = 1.0 if side == "left" else -1.0
    phase = np.minimum(3 * np.arange(frames) // max(frames, 1), 2)
    actions = np.zeros((frames, 3), np.float32)
    actions[:, 0] = numbers.uniform(_SLOWEST_MPS, TOP_SPEED_MPS, frames)
    actions[:, 1] = sign * np.array([1.0, 0.0, -1.0])[phase] * numbers.uniform(0.3, 0.7, frames)
    floor = numbers.integers(90, 150, (2, 3)).astype(np.uint8)
    return Drive(tuple(things), actions, floor)


def render(drive: Drive, step: int, height: int, width: int) -> np.ndarray:
    """What the camera sees as action `step` begins; uint8 RGB [height, width, 3]."""
    driven = drive.actions[:step, :2].astype(np.float64).sum(axis=0) * STEP_S
    image = Image.fromarray(_room(drive.floor, driven, height, width))
    draw = ImageDraw.Draw(image)
    for thing in drive.things:
        _draw(draw, thing, driven, height, width)
    return np.asarray(image)


def _room(floor: np.ndarray, driven: np.ndarray, height: int, width: int) -> np.ndarray:
    """Wall and floor: for each pixel below the horizon the tile that lies there."""
    pixels = np.empty((height, width, 3), np.uint8)
    horizon = int(_HORIZON * height)
    shades = np.linspace(150, 205, max(horizon, 1)).astype(np.uint8)
    pixels[:horizon] = shades[:, None, None]
    below = np.arange(horizon, height) - horizon + 0.5
    ahead_m = np.minimum(_CAMERA_HEIGHT_M * _FOCAL * width / below, _FURTHEST_M)
    across = (width / 2 - np.arange(width)) / (_FOCAL * width)
    rows = np.floor((ahead_m + driven[0]) / _TILE_M).astype(np.int64)
    columns = np.floor((ahead_m[:, None] * across + driven[1]) / _TILE_M).astype(np.int64)
    pixels[horizon:] = floor[(rows[:, None] + columns) % 2]
    return pixels


def _draw(draw: ImageDraw.ImageDraw, thing: Thing, driven: np.ndarray, height: int, width: int) -> None:
    ahead_m = thing.ahead_m - driven[0]
    if ahead_m < _NEAREST_M:  # passed
        return
    scale = _FOCAL * width / ahead_m
    middle = width / 2 - (thing.left_m - driven[1]) * scale
    foot = _HORIZON * height + _CAMERA_HEIGHT_M * scale
    left, right = middle - thing.width_m / 2 * scale, middle + thing.width_m / 2 * scale
    top = foot - thing.height_m * scale
    draw.rectangle((left, top, right, foot), fill=thing.colour, outline=(40, 40, 40))
