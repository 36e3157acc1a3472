"""Drive from a (made-up) camera through a Controller, which turns every fault into a stop."""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from vla_edge.runtime import Command, Controller, ControllerOptions, Policy, VlaError, stop_on_exit


def camera() -> Iterator[tuple[np.ndarray, float]]:
    """Six frames with their times; the fourth has lost its colour, as a camera with a loose plug gives."""
    rng = np.random.default_rng(0)
    for at in range(6):
        shape = (480, 640) if at == 3 else (480, 640, 3)
        yield rng.integers(0, 255, shape, dtype=np.uint8), time.monotonic()


class Robot:
    """Prints what a real one would drive."""

    def move(self, linear_x: float, linear_y: float) -> None:
        print(f"move {linear_x:+.3f} {linear_y:+.3f} m/s", flush=True)


def main(bundle: str) -> None:
    robot = Robot()
    with Policy.load(bundle) as policy:
        policy.warmup()
        # How long the robot may drive on what it saw; one that drives needs less than a CPU's second.
        controller = Controller(policy, ControllerOptions(deadline_ms=1000))
        with stop_on_exit(lambda: robot.move(0.0, 0.0), controller):
            for frame, captured_s in camera():
                drive(robot, controller.step(frame, captured_s=captured_s))
            controller.reset()  # once somebody has looked at the reason
            print("reset")
            frame, captured_s = next(camera())
            drive(robot, controller.step(frame, captured_s=captured_s))
            print("the end of the block stops the robot:")


def drive(robot: Robot, command: Command) -> None:
    robot.move(*command.values)  # zeros where there is a reason
    print(command.reason or "driving", flush=True)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export wrote")
given = parser.parse_args()
try:
    main(given.bundle)
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
