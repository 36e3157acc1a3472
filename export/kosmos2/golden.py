"""Inputs of golden samples: as the graph takes them, and as the reference does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vla_edge.export.family import Prompts

from .architecture import Architecture
from .settings import PolicySettings


def golden_inputs(
    arch: Architecture,
    settings: PolicySettings,
    prompts: Prompts | None,
    count: int,
    chosen: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Inputs of all samples beside their pixels; the instructions are those chosen, or take turns.

    Returns:
        `input_ids`, `token_ids`, `attention_mask` int32 [N, L] (rows of the graph's embedding, and the tokenizer's
        own ids); `instruction_index` int32 [N]; `h_in`, `c_in` float32 [N, layers, hidden] where state is carried,
        half of them not zero.
    """
    if prompts and chosen is None:
        chosen = [at % len(prompts.instructions) for at in range(count)]
    inputs = _text(prompts, chosen) if prompts and chosen is not None else {}
    return inputs | (_states(count, arch) if settings.lstm == "carried" else {})


def reference_inputs(
    settings: PolicySettings, golden: Mapping[str, np.ndarray], at: int
) -> dict[str, torch.Tensor]:
    """Sample `at` as keyword arguments of the policy, batch 1."""
    names = {"pixel_values": "pixel_values"}
    if "text" in settings.features:
        names |= {"input_ids": "token_ids", "attention_mask": "attention_mask"}
    if "clip_text" in settings.features:
        names["instruction_index"] = "instruction_index"
    inputs = {name: torch.from_numpy(golden[array][at : at + 1]) for name, array in names.items()}
    if settings.lstm == "carried":
        inputs |= {name: torch.from_numpy(golden[name][at])[:, None] for name in ("h_in", "c_in")}
    return inputs


def pad(values: Sequence[int], length: int, filler: int) -> list[int]:
    return [*values, *[filler] * (length - len(values))]


def _text(prompts: Prompts, chosen: Sequence[int]) -> dict[str, np.ndarray]:
    prompt, instructions = prompts.prompt, prompts.instructions
    rows = [pad(instructions[at].graph_ids, prompt.length, prompt.pad_id) for at in chosen]
    tokens = [pad(instructions[at].token_ids, prompt.length, 1) for at in chosen]
    masks = [pad((1,) * len(instructions[at].graph_ids), prompt.length, 0) for at in chosen]
    return {
        "input_ids": np.array(rows, np.int32),
        "token_ids": np.array(tokens, np.int32),
        "attention_mask": np.array(masks, np.int32),
        "instruction_index": np.array(chosen, np.int32),
    }


def _states(count: int, arch: Architecture) -> dict[str, np.ndarray]:
    """Zero states for even samples (the first call), seeded ones for odd (later calls)."""
    rng = np.random.default_rng(0)
    shape = (count, arch.lstm.layers, arch.lstm.hidden)
    states = {name: rng.uniform(-0.9, 0.9, shape).astype(np.float32) for name in ("h_in", "c_in")}
    for state in states.values():
        state[::2] = 0
    return states
