"""What `Policy` needs of a bundle's graph, as its manifest describes it."""

from __future__ import annotations

from vla_edge.runtime.errors import BundleError, InputError

from .manifest import Manifest

PIXELS = "pixel_values"
ACTIONS = "actions"
# Inputs that a policy fills from an instruction; all others but pixels must be carried state.
PROMPT_INPUTS = ("input_ids", "attention_mask", "instruction_index")


def check_graph(manifest: Manifest, batch: int | None = 1) -> None:
    """What a policy needs of a graph, beyond what every manifest says.

    Args:
        manifest: of the bundle.
        batch: how many frames at a time; None for as many as the graph takes.

    Raises:
        BundleError: the manifest describes a graph that cannot be fed.
        InputError: another batch.
    """
    inputs = {tensor.name: tensor.shape for tensor in manifest.inputs}
    outputs = {tensor.name: tensor.shape for tensor in manifest.outputs}
    sources = {source for source, _ in manifest.runtime.state}
    unknown = inputs.keys() - sources - {PIXELS, *PROMPT_INPUTS}
    if PIXELS not in inputs or ACTIONS not in outputs or unknown:
        raise _not_for_policy(
            manifest, f"inputs {sorted(inputs)} and outputs {sorted(outputs)}", f"{PIXELS} and {ACTIONS}"
        )
    taken = inputs[PIXELS][0]
    if batch is not None and taken != batch:
        raise InputError(
            f"the bundle {manifest.name!r} takes {taken} frames at a time; a policy acts on one.",
            "Export it with --batch 1; vla-run takes folders of frames with it; or drive it through open_session.",
        )
    size = (manifest.preprocessing.height, manifest.preprocessing.width)
    prompt = (taken, manifest.prompt.length)
    wanted = {PIXELS: (taken, 3, *size), "input_ids": prompt, "attention_mask": prompt}
    wanted["instruction_index"] = (taken,)
    for name, shape in wanted.items():
        if inputs.get(name, shape) != shape:
            raise _not_for_policy(manifest, f"{name} {list(inputs[name])}", list(shape))
    components = len(manifest.action.names)
    if len(outputs[ACTIONS]) != 3 or outputs[ACTIONS][::2] != (taken, components):
        raise _not_for_policy(manifest, f"{ACTIONS} {list(outputs[ACTIONS])}", [taken, "steps", components])
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
