"""Drive from a (made-up) camera through a Controller, which turns every fault into a stop."""

import sys
from collections.abc import Iterator

import numpy as np

from vla_edge.runtime import Controller, ControllerOptions, Policy


def camera() -> Iterator[np.ndarray]:
    """Six frames; the fourth has lost its colour, as a camera with a loose plug gives."""
    rng = np.random.default_rng(0)
    for at in range(6):
        yield rng.integers(0, 255, (480, 640) if at == 3 else (480, 640, 3), dtype=np.uint8)


class Robot:
    """Prints what a real one would drive."""

    def move(self, linear_x: float, linear_y: float) -> None:
        print(f"move {linear_x:+.3f} {linear_y:+.3f} m/s")


robot = Robot()
with Policy.load(sys.argv[1]) as policy:
    policy.warmup()
    controller = Controller(policy, ControllerOptions(deadline_ms=1000))
    try:
        for frame in camera():
            command = controller.step(frame)
            robot.move(*command.values)
            print(command.reason or "driving")
        controller.reset()
        print("reset:", controller.step(np.zeros((480, 640, 3), np.uint8)).reason or "driving")
    finally:
        robot.move(0.0, 0.0)  # however the loop ends: Ctrl-C, or the camera's own error
