"""What `Policy` needs of a bundle's graph, as its manifest describes it."""

from __future__ import annotations

from .errors import BundleError, InputError
from .manifest import Manifest

PIXELS = "pixel_values"
ACTIONS = "actions"
# Inputs that a policy fills from an instruction; all others but pixels must be carried state.
PROMPT_INPUTS = ("input_ids", "attention_mask", "instruction_index")


def check_graph(manifest: Manifest) -> None:
    """Refuse a graph that a policy could not feed or read, beyond what every manifest says.

    Raises:
        BundleError: names or shapes of inputs, outputs or state that do not fit.
        InputError: the batch is not 1.
    """
    inputs = {tensor.name: tensor.shape for tensor in manifest.inputs}
    outputs = {tensor.name: tensor.shape for tensor in manifest.outputs}
    sources = {source for source, _ in manifest.runtime.state}
    unknown = inputs.keys() - sources - {PIXELS, *PROMPT_INPUTS}
    if PIXELS not in inputs or ACTIONS not in outputs or unknown:
        raise _not_for_policy(
            manifest, f"inputs {sorted(inputs)} and outputs {sorted(outputs)}", f"{PIXELS} and {ACTIONS}"
        )
    batch = inputs[PIXELS][0]
    if batch != 1:
        raise InputError(
            f"the bundle {manifest.name!r} takes {batch} frames at a time; a policy acts on one.",
            "Export it with --batch 1, or drive it through open_session.",
        )
    size = (manifest.preprocessing.height, manifest.preprocessing.width)
    prompt = (1, manifest.prompt.length)
    wanted = {PIXELS: (1, 3, *size), "input_ids": prompt, "attention_mask": prompt, "instruction_index": (1,)}
    for name, shape in wanted.items():
        if inputs.get(name, shape) != shape:
            raise _not_for_policy(manifest, f"{name} {list(inputs[name])}", list(shape))
    components = len(manifest.action.names)
    if len(outputs[ACTIONS]) != 3 or outputs[ACTIONS][::2] != (1, components):
        raise _not_for_policy(manifest, f"{ACTIONS} {list(outputs[ACTIONS])}", [1, "steps", components])
    for source, target in manifest.runtime.state:
        if source not in inputs or inputs[source] != outputs.get(target):
            raise _not_for_policy(
                manifest, f"state {source} -> {target}", "an input and an output of one shape"
            )


def _not_for_policy(manifest: Manifest, found: str, wanted: object) -> BundleError:
    return BundleError(
        f"the manifest of {manifest.name!r} describes {found}; a policy needs {wanted}.",
        "It was damaged or edited; export it again.",
    )
