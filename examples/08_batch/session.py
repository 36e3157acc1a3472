"""The same by `open_session`, the floor below policies: feed the inputs yourself, an instruction for each row."""

import argparse
from contextlib import closing

import numpy as np

from vla_edge.runtime import Bundle, Preprocessor, VlaError, open_session

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="what vla-export --batch wrote")
parser.add_argument("image")
given = parser.parse_args()


def main() -> None:
    bundle = Bundle.open(given.bundle)  # every file of it is hashed, before an engine reads any
    manifest = bundle.manifest
    prompt, known, action = manifest.prompt, manifest.instructions, manifest.action
    with closing(open_session(bundle)) as session:
        write_pixels = Preprocessor(manifest.preprocessing)
        rows = [at % max(1, len(known)) for at in range(manifest.batch)]  # which instruction, for each row
        for tensor in manifest.inputs:
            buffer = session.inputs[tensor.name]  # the engine's own memory
            buffer.fill(0)  # also state, at an episode's start
            if prompt and tensor.role == "token_ids":
                buffer.fill(prompt.pad_id)
            for row, chosen in enumerate(rows):
                if tensor.role == "pixels":
                    write_pixels(given.image, buffer[row])
                elif tensor.role == "token_ids":
                    buffer[row, : len(known[chosen].graph_ids)] = known[chosen].graph_ids
                elif tensor.role == "attention_mask":
                    buffer[row, : len(known[chosen].graph_ids)] = 1
                elif tensor.role == "instruction_index":
                    buffer[row] = chosen
                elif tensor.role != "state":  # a frame as it is, where the bundle has a camera
                    parser.exit(2, f"this example does not feed inputs of role {tensor.role}\n")
        session.run()
        # float32 [batch, components], of the first step
        output = session.outputs[manifest.actions.name][:, 0]
    command = output.astype(np.float64) * action.scale + action.offset
    if not np.isfinite(command).all():  # policies check it; here nobody else does
        parser.exit(1, "the engine returned an action that is not finite\n")
    for chosen, values in zip(rows, np.clip(command, np.negative(action.limit), action.limit), strict=True):
        text = known[chosen].text if known else ""
        print(
            text,
            *(f"{name} {value:+.3f}" for name, value in zip(action.names, values, strict=True)),
            sep="  ",
        )


try:
    main()
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
