"""Drive at 10 Hz with Controller.run from a made-up camera whose plug comes loose half-way."""

import argparse
import sys
import threading
import time

import numpy as np

from vla_edge.runtime import Command, Controller, ControllerOptions, InstructionError, Policy, VlaError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export wrote")
parser.add_argument("seconds", type=float, nargs="?", default=10.0, help="until the camera ends")
given = parser.parse_args()


class Camera:
    """Thirty frames of noise a second; for a quarter of a second there are none."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.rng, self.began_s = seconds, np.random.default_rng(0), 0.0

    def read(self) -> tuple[np.ndarray, float] | None:
        """Wait for a frame; None at the end. What it raises stops the robot."""
        self.began_s = self.began_s or time.monotonic()
        time.sleep(1 / 30)
        captured_s = time.monotonic()  # better: the driver's own time of capture, by this clock
        driven_s = captured_s - self.began_s
        if 0 <= driven_s - self.seconds / 2 < 0.25:
            raise OSError("the plug is loose")
        if driven_s > self.seconds:
            return None
        return self.rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), captured_s


class Wheels:
    """Prints what real ones would do. It must not wait: the loop waits with it."""

    def send(self, command: Command) -> None:
        text = command.action.instruction if command.action else command.reason
        print(*(f"{value:+.3f}" for value in command.values), text, flush=True)


def operator(controller: Controller) -> None:
    """Reads the terminal: an instruction is followed from the next frame on; Enter alone resets after a fault."""
    for line in sys.stdin:
        if not line.strip():
            controller.ask_reset()
            continue
        try:
            controller.instruct(line.strip())
        except InstructionError as error:  # the robot goes on as before
            print(error, file=sys.stderr)


def main() -> None:
    with Policy.load(given.bundle) as policy:
        policy.warmup()
        # How long the robot may drive on what it saw; one that drives needs less than a CPU's second.
        controller = Controller(policy, ControllerOptions(deadline_ms=1000))
        threading.Thread(target=operator, args=(controller,), daemon=True).start()
        health = controller.run(Camera(given.seconds), Wheels(), rate_hz=10)
        print(f"{health.actions} actions of {health.frames} frames, {health.missed_ticks} ticks missed")
        print("stops:", ", ".join(f"{cause.value} {count}" for cause, count in health.stops.items()))
        if health.latency_p50_ms is not None:
            print(f"latency p50 {health.latency_p50_ms:.1f} ms, p99 {health.latency_p99_ms:.1f} ms")


try:
    main()
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
except KeyboardInterrupt:  # the robot is stopped already; so it is on SIGTERM, which ends with 143
    parser.exit(130)
