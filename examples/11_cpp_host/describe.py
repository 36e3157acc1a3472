"""Write down all that a C++ host needs of a bundle and its plan, with an answer to compare its own with."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from vla_edge.runtime import InputError, Policy, VlaError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("bundle", help="of vla-export --camera, with a plan of vla-build for this machine")
parser.add_argument("target", type=Path, help="the description; a frame is written beside it")
parser.add_argument("instruction", nargs="?", help="one that the bundle holds; its default if not given")
given = parser.parse_args()


def words(*parts: object) -> str:
    for part in parts[:-1]:  # the last one may have spaces in it
        if len(str(part).split()) != 1:
            raise InputError(f"{part!r} is no single word.", "Rename it in the family of the policy.")
    return " ".join(map(str, parts))


def lines(policy: Policy, frame_file: Path) -> list[str]:
    session: Any = policy.session  # TensorRT's: the plan's hash, its machine and its gates were checked
    manifest, plan, written = policy.manifest, session.plan, dict[str, str]()
    action = manifest.action
    for kind, tensors in (
        ("input", manifest.inputs),
        ("output", manifest.outputs),
        ("between", [tensor for part in plan.record.parts for tensor in part.outputs]),
    ):
        for tensor in tensors:
            size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
            written.setdefault(
                tensor.name, words(kind, tensor.name, getattr(tensor, "role", "-"), tensor.dtype, size)
            )
    found = ["vla-host 1", *written.values()]
    found += [
        words("part", part.size_bytes, part.sha256, plan.file(part).resolve()) for part in plan.record.parts
    ]
    found += [words("state", source, target) for target, source in manifest.runtime.state]
    found += [
        words("component", *one)
        for one in zip(action.names, action.units, action.scale, action.offset, action.limit, strict=True)
    ]
    if manifest.prompt:
        wanted = given.instruction or manifest.default_instruction
        index = policy.instructions.index(wanted)
        ids = manifest.instructions[index].graph_ids
        found.append(words("instruction", index, manifest.prompt.pad_id, len(ids), *ids))
    found.append(words("holds_first", int(manifest.runtime.frame == "first")))
    policy.frame[...] = np.random.default_rng(0).integers(0, 256, policy.frame.shape, dtype=np.uint8)
    frame_file.write_bytes(policy.frame.tobytes())
    values = policy.act(policy.frame, given.instruction).values
    return [*found, words("check", *values, frame_file.resolve()), "end"]


try:
    with Policy.load(given.bundle, backend="tensorrt") as opened:
        if given.instruction not in (None, *opened.instructions):
            raise InputError(
                f"{given.instruction!r} is not held by the bundle.", "vla-inspect lists what is."
            )
        text = lines(opened, given.target.with_suffix(".frame"))
        given.target.write_text("\n".join(text) + "\n", encoding="utf-8")
except VlaError as error:  # it says what is wrong and how to fix it
    parser.exit(error.exit_code, f"{error}\n")
except OSError as error:
    parser.exit(2, f"{error.filename}: {error.strerror}\n")
