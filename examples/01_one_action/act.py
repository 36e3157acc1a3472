"""Load a bundle, look at one image, print the action and the engine that gave it."""

import sys

from vla_edge.runtime import Policy

bundle, image = sys.argv[1:3]
with Policy.load(bundle) as policy:
    policy.warmup()
    action = policy.act(image)
    print(f"linear_x {action.linear_x:+.3f} m/s, linear_y {action.linear_y:+.3f} m/s")
    print(f"{action.engine}, {action.timings_ms['total']:.1f} ms, following {action.instruction!r}")
