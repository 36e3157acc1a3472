"""Two policies in one process, on one GPU: the first one drives, the second one is watched beside it."""

import argparse
from concurrent.futures import ThreadPoolExecutor

from vla_edge.runtime import EngineError, Policy, VlaError, open_device

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("driving", help="a bundle")
parser.add_argument("beside", help="another one, or the same again, as for a second camera")
parser.add_argument("image", help="a photograph, for both")
given = parser.parse_args()


def main() -> None:
    try:
        gpu = open_device()
    except EngineError as error:
        gpu = None
        print(f"no GPU: {error.problem} Each policy has weights of its own, in the host's memory.")
    with Policy.load(given.driving) as driving:
        free = gpu.free_bytes() if gpu else 0
        with Policy.load(given.beside) as beside, ThreadPoolExecutor(2) as threads:
            if gpu:  # what both plans have in common lies on the device once
                print(f"the second one took {(free - gpu.free_bytes()) / 2**20:.0f} MiB of the device")
            both = (driving, beside)
            for policy in both:
                policy.warmup()
            # A policy belongs to one thread at a time; two of them do not wait for each other.
            actions = list(threads.map(Policy.act, both, (given.image, given.image)))
            for action in actions:
                print(*(f"{value:+.3f}" for value in action.values), action.engine)
            if actions[0].names == actions[1].names:
                pairs = zip(actions[0].values, actions[1].values, strict=True)
                print(f"apart by {max(abs(one - other) for one, other in pairs):.3f}")


try:
    main()
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
