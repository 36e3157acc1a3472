"""What `Policy` needs of a bundle's graph, as its manifest describes it."""

from __future__ import annotations

from vla_edge.runtime.errors import BundleError, InputError

from .manifest import Input, InputRole, Manifest


def check_graph(manifest: Manifest, batch: int | None = 1) -> Input:
    """What a policy needs of a graph, beyond what every manifest says.

    Args:
        manifest: of the bundle.
        batch: how many frames at a time; None for as many as the graph takes.

    Returns:
        The input for what the camera sees: pixels, or the frame itself.

    Raises:
        BundleError: the manifest describes a graph that cannot be fed.
        InputError: another batch.
    """
    image = manifest.image_input
    if image is None or any(tensor.role == "other" for tensor in manifest.inputs):
        found = ", ".join(f"{tensor.name} ({tensor.role})" for tensor in manifest.inputs)
        raise _not_for_policy(manifest, f"the inputs {found}", "pixels or a frame, and others that it knows")
    taken = image.shape[0]
    if batch is not None and taken != batch:
        raise InputError(
            f"the bundle {manifest.name!r} takes {taken} frames at a time; a policy acts on one.",
            "Export it with --batch 1; vla-run takes folders of frames with it; or drive it through open_session.",
        )
    size = (manifest.preprocessing.height, manifest.preprocessing.width)
    wanted: dict[InputRole, tuple[int, ...]] = {"pixels": (taken, 3, *size), "instruction_index": (taken,)}
    if manifest.prompt:
        wanted["token_ids"] = wanted["attention_mask"] = (taken, manifest.prompt.length)
    for tensor in manifest.inputs:
        shape = wanted.get(tensor.role, tensor.shape)
        if tensor.shape != shape:
            raise _not_for_policy(manifest, f"{tensor.name} {list(tensor.shape)}", list(shape))
    return image


def _not_for_policy(manifest: Manifest, found: str, wanted: object) -> BundleError:
    return BundleError(
        f"the manifest of {manifest.name!r} describes {found}; a policy needs {wanted}.",
        "It was damaged or edited; export it again.",
    )
