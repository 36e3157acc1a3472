"""Load a bundle, look at one image, print the action and the engine that gave it."""

import argparse

from vla_edge.runtime import Policy, VlaError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export wrote")
parser.add_argument("image", help="a photograph")
given = parser.parse_args()
try:
    with Policy.load(given.bundle) as policy:
        policy.warmup()
        action = policy.act(given.image)
        print(f"linear_x {action.linear_x:+.3f} m/s, linear_y {action.linear_y:+.3f} m/s")
        print(f"{action.engine}, {action.timings_ms['total']:.1f} ms, following {action.instruction!r}")
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
