"""Carried state as real frames leave it, for golden samples from recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vla_edge.export.bundle.demands import unreturned
from vla_edge.runtime.bundle.manifest import PIXELS

from .golden import Reference


def run_in_states(
    reference: Reference,
    inputs: Mapping[str, np.ndarray],
    before: Sequence[np.ndarray],
    state: Mapping[str, str],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """The state that the policy carries into each sample, after it ran on the frames before it from zero.

    Args:
        reference: the policy.
        inputs: of all samples.
        before: float32 [k, 3, H, W] for each sample; k is 0 of an episode's first frame, whose state is zero.
        state: the stage that comes back, by the name of the input that carries it.
        progress: called after each frame.

    Raises:
        InputError: the family's policy does not return such a stage.

    Returns:
        float32 [N, layers, hidden] for each of these inputs; none where every state would be zero, since then no
        sample would show how state enters.
    """
    if not any(map(len, before)):
        return {}
    states = {source: np.zeros_like(inputs[source]) for source in state}
    for at, frames in enumerate(before):
        row = {name: array[at : at + 1].copy() for name, array in inputs.items()}
        row |= {source: values[at : at + 1] for source, values in states.items()}
        for frame in frames:
            out = reference.run({**row, PIXELS: frame[None]}, 0)
            for source, target in state.items():
                if target not in out:
                    raise unreturned(reference.family, target)
                states[source][at] = out[target][:, 0].float().numpy()
            progress()
    return states
