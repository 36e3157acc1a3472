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


with Policy.load(sys.argv[1]) as policy:
    policy.warmup()
    controller = Controller(policy, ControllerOptions(deadline_ms=1000))
    for frame in camera():
        command = controller.step(frame)
        print([f"{value:+.3f}" for value in command.values], command.reason or "driving")
    controller.reset()
    print("reset:", controller.step(np.zeros((480, 640, 3), np.uint8)).reason or "driving")
