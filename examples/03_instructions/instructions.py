"""Follow one instruction after another on one image; without any, those that the bundle holds."""

import argparse

from vla_edge.runtime import InstructionError, Policy, VlaError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export wrote")
parser.add_argument("image", help="a photograph")
parser.add_argument("instructions", nargs="*", metavar="INSTRUCTION", help="what to do")
given = parser.parse_args()


def main() -> int:
    refused = 0
    with Policy.load(given.bundle) as policy:
        policy.warmup()
        for text in given.instructions or policy.instructions or (None,):  # none: a policy without text
            policy.reset()  # a new instruction is a new episode: nothing of the last one is remembered
            try:
                action = policy.act(given.image, text)
            except InstructionError as error:  # names those that it holds, and the nearest one
                print(f"refused: {error}")
                refused += 1
                continue
            said = zip(action.names, action.values, action.units, strict=True)
            print(
                action.instruction, *(f"{name} {value:+.3f} {unit}" for name, value, unit in said), sep="  "
            )
    return 1 if refused else 0


try:
    parser.exit(main())
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
