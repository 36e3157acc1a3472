"""Act on several images at a time, with a bundle of `vla-export --batch`; each image is an episode of its own."""

import argparse
import sys

from vla_edge.runtime import Action, BatchPolicy, VlaError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export --batch wrote")
parser.add_argument("images", nargs="+", metavar="IMAGE")
given = parser.parse_args()


def main() -> int:
    refused = 0
    with BatchPolicy.load(given.bundle) as policy:
        policy.warmup()
        for start in range(0, len(given.images), policy.batch):
            images = given.images[start : start + policy.batch]  # fewer at the end are fine
            for image, found in zip(images, policy.act(images), strict=True):
                if isinstance(found, Action):
                    print(image, *(f"{value:+.3f}" for value in found.values))
                else:  # why this one is no image; the others have their actions
                    print(f"{image}: {found}", file=sys.stderr)
                    refused += 1
    return 1 if refused else 0


try:
    parser.exit(main())
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
