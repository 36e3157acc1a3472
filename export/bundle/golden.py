"""Golden samples: inputs, stages and actions of the PyTorch FP32 policy, kept in the bundle.

They let a machine without torch check the engine that it has just built, and they are what the exported
file itself is measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.reference import VlaPolicy
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.runtime.bundle.golden import MAX_GOLDEN_BYTES
from vla_edge.runtime.bundle.manifest import Instruction, Prompt
from vla_edge.runtime.errors import CheckpointError, InputError

from .frames import Frame

_HEADERS_BYTES = 1 << 20
# PyTorch's names of the stages, by the manifest's
OUTPUT_OF_STAGE = {
    "vision": "vision",
    "text": "text",
    "clip": "clip",
    "fusion": "fusion",
    "action": "actions",
}


def make_inputs(
    frames: Sequence[Frame],
    pixels: np.ndarray,
    instructions: Sequence[Instruction],
    prompt: Prompt,
    settings: PolicySettings,
    arch: Architecture,
) -> dict[str, np.ndarray]:
    """Inputs of all samples; the instructions take turns.

    Returns:
        `names` [N]; `pixel_values` float32 [N, 3, H, W]; `input_ids`, `token_ids`, `attention_mask` int32
        [N, L] (rows of the graph's embedding, and the tokenizer's own ids); `instruction_index` int32 [N];
        `h_in`, `c_in` float32 [N, layers, hidden] where state is carried, half of them not zero.
    """
    chosen = [at % len(instructions) for at in range(len(frames))]
    rows = [pad(instructions[at].graph_ids, prompt.length, prompt.pad_id) for at in chosen]
    tokens = [pad(instructions[at].token_ids, prompt.length, 1) for at in chosen]
    masks = [pad((1,) * len(instructions[at].graph_ids), prompt.length, 0) for at in chosen]
    inputs: dict[str, np.ndarray] = {
        "names": np.array([frame.name for frame in frames]),
        "pixel_values": pixels,
        "input_ids": np.array(rows, np.int32),
        "token_ids": np.array(tokens, np.int32),
        "attention_mask": np.array(masks, np.int32),
        "instruction_index": np.array(chosen, np.int32),
    }
    if settings.lstm == "carried":
        inputs |= _states(len(frames), arch)
    return inputs


def run_reference(
    policy: VlaPolicy, inputs: dict[str, np.ndarray], progress: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Run the policy on each sample, one at a time.

    Returns:
        `actions` float32 [N, steps, size] and `stage_<name>` float32 [N, ...] for each stage that exists.

    Raises:
        CheckpointError: the FP32 policy itself gives NaN or infinity.
    """
    collected: dict[str, list[np.ndarray]] = {}
    for at, name in enumerate(inputs["names"]):
        out = policy(**torch_inputs(policy, inputs, at))
        for stage, key in OUTPUT_OF_STAGE.items():
            if key in out:
                _refuse_nan(out[key], stage, str(name))
                target = "actions" if stage == "action" else f"stage_{stage}"
                collected.setdefault(target, []).append(out[key][0].float().numpy())
        progress()
    return {name: np.stack(values) for name, values in collected.items()}


def torch_inputs(policy: VlaPolicy, inputs: dict[str, np.ndarray], at: int) -> dict[str, torch.Tensor]:
    """Sample `at` as keyword arguments of the policy, batch 1, floats in the policy's dtype."""
    dtype = next(policy.rnn.parameters()).dtype
    features = policy.settings.features
    result = {"pixel_values": torch.from_numpy(inputs["pixel_values"][at : at + 1]).to(dtype)}
    if "text" in features:
        result["input_ids"] = torch.from_numpy(inputs["token_ids"][at : at + 1])
        result["attention_mask"] = torch.from_numpy(inputs["attention_mask"][at : at + 1])
    if "clip_text" in features:
        result["instruction_index"] = torch.from_numpy(inputs["instruction_index"][at : at + 1])
    if policy.settings.lstm == "carried":
        for name in ("h_in", "c_in"):
            result[name] = torch.from_numpy(inputs[name][at])[:, None].to(dtype)
    return result


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
            "Give fewer with --images.",
        )
    with path.open("xb") as file:
        np.savez(file, **inputs, **outputs)  # type: ignore[arg-type]


def pad(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [*values, *[filler] * (length - len(values))]


def _states(count: int, arch: Architecture) -> dict[str, np.ndarray]:
    """Zero states for even samples (the first call), seeded ones for odd (later calls)."""
    rng = np.random.default_rng(0)
    shape = (count, arch.lstm.layers, arch.lstm.hidden)
    states = {name: rng.uniform(-0.9, 0.9, shape).astype(np.float32) for name in ("h_in", "c_in")}
    for state in states.values():
        state[::2] = 0
    return states


def _refuse_nan(value: torch.Tensor, stage: str, name: str) -> None:
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"the PyTorch FP32 policy gives NaN or infinity at stage {stage} for sample {name}.",
            "The checkpoint itself is broken or its settings are wrong; look at it with vla-inspect.",
        )
