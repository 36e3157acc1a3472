"""Golden samples: inputs, stages and actions of the PyTorch FP32 policy, kept in the bundle.

They let a machine without torch check the engine that it has just built, and they are what the exported
file itself is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_edge.export.bundle.demands import unreturned
from vla_edge.export.family import Family
from vla_edge.runtime.bundle.golden import MAX_GOLDEN_BYTES
from vla_edge.runtime.bundle.manifest import ACTION_STAGE, FRAME, PIXELS
from vla_edge.runtime.errors import CheckpointError, InputError

from .frames import GoldenFrames

_HEADERS_BYTES = 1 << 20


def make_inputs(frames: GoldenFrames, others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The policy's inputs of all samples: `names`, `pixel_values` float32 [N, 3, H, W], and what the family adds."""
    return {"names": np.array(frames.names), PIXELS: frames.pixels, **others}


def see_through(inputs: dict[str, np.ndarray], frames: np.ndarray | None) -> dict[str, np.ndarray]:
    """Inputs of a graph that begins with a camera: its frames in place of the pixels. Without frames, as they are."""
    if frames is None:
        return inputs
    others = {name: array for name, array in inputs.items() if name not in ("names", PIXELS)}
    return {"names": inputs["names"], FRAME: frames, **others}


def run_reference(
    reference: Reference,
    inputs: Mapping[str, np.ndarray],
    stages: Sequence[str],
    states: Collection[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """Run the policy on each sample, one at a time.

    Args:
        reference: the policy.
        inputs: of all samples.
        stages: what to keep.
        states: those of them that are carried state, [layers, 1, hidden] of the policy.
        progress: called after each sample.

    Returns:
        `stage_<name>` float32 [N, ...] for each stage, of carried state [N, layers, hidden]; and `actions`
        [N, steps, size].

    Raises:
        CheckpointError: the FP32 policy itself gives NaN or infinity.
        InputError: the family's policy does not return a stage.
    """
    collected: dict[str, list[np.ndarray]] = {}
    for at, name in enumerate(inputs["names"]):
        out = reference.run(inputs, at)
        for stage in stages:
            if output_of(stage) not in out:
                raise unreturned(reference.family, output_of(stage))
            value = out[output_of(stage)]
            _refuse_nan(value, stage, str(name))
            row = value[:, 0] if stage in states else value[0]
            collected.setdefault(array_of(stage), []).append(row.float().numpy())
        progress()
    return {name: np.stack(values) for name, values in collected.items()}


def output_of(stage: str) -> str:
    """The reference's name of a stage."""
    return "actions" if stage == ACTION_STAGE else stage


def array_of(stage: str) -> str:
    """The name of a stage's values among golden samples."""
    return "actions" if stage == ACTION_STAGE else f"stage_{stage}"


@dataclass(frozen=True)
class Reference:
    """A policy in PyTorch, with its family, which knows how it is called."""

    family: Family
    policy: torch.nn.Module
    settings: Any

    def arguments(self, inputs: Mapping[str, np.ndarray], at: int = 0) -> dict[str, torch.Tensor]:
        """What the policy is called with for sample `at`."""
        return self.family.reference_inputs(self.settings, inputs, at)

    def run(self, inputs: Mapping[str, np.ndarray], at: int) -> dict[str, torch.Tensor]:
        """The stages and actions of sample `at`, by the policy's names; floats go in as the policy computes."""
        dtype = next(self.policy.parameters()).dtype
        given = self.arguments(inputs, at)
        found: dict[str, torch.Tensor] = self.policy(
            **{name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
        )
        return found


def save_golden(path: Path, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    """Write `golden.npz`.

    Raises:
        InputError: more samples than a bundle's reader takes.
    """
    size_bytes = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
    if size_bytes > MAX_GOLDEN_BYTES - _HEADERS_BYTES:
        raise InputError(
            f"{len(inputs['names'])} images make golden samples of {size_bytes} bytes, "
            f"a bundle holds at most {MAX_GOLDEN_BYTES}.",
            "Give fewer with --images, or with --samples from --episodes.",
        )
    with path.open("xb") as file:
        np.savez(file, **inputs, **outputs)  # type: ignore[arg-type]


def _refuse_nan(value: torch.Tensor, stage: str, name: str) -> None:
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"the PyTorch FP32 policy gives NaN or infinity at stage {stage} for sample {name}.",
            "The checkpoint itself is broken or its settings are wrong; look at it with vla-inspect.",
        )
