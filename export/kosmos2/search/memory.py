"""How many frames a device takes at once, told before anything is copied to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_edge.export.kosmos2.architecture import Architecture, TextTower, VisionTower
from vla_edge.runtime.errors import ResourceError

from .space import STEPS

if TYPE_CHECKING:
    import torch

FLOAT32_BYTES = 4
AT_ONCE = 4 * STEPS  # four episodes: rows enough for a large GPU, and the host holds as many frames twice
TEXT_TOKENS = 48  # beside the image's, of a long instruction
# Features of all episodes, the LSTM over them, and what libraries take for themselves
BESIDE_BYTES = 3 << 30


@dataclass(frozen=True)
class DeviceMemory:
    """What the backbones may take of a device.

    Attributes:
        frames_at_once: how many frames are run together.
        bytes: at most, about; None on a CPU, which maps the weights.
    """

    frames_at_once: int
    bytes: int | None


def planned(arch: Architecture, tensors: Mapping[str, torch.Tensor], device: str) -> DeviceMemory:
    """How a search uses a device.

    Raises:
        ResourceError: the weights and an episode do not fit.
    """
    if device == "cpu":
        return DeviceMemory(1, None)  # an episode by itself: more rows are no faster
    import torch

    weights = sum(tensor.numel() for tensor in tensors.values()) * FLOAT32_BYTES
    return fitting(frame_bytes(arch), weights, torch.cuda.mem_get_info()[0])


def fitting(of_frame: int, weights: int, free: int) -> DeviceMemory:
    """As many frames as fit, all in bytes, but no more than are of use.

    Raises:
        ResourceError: not even an episode.
    """
    fixed = weights + BESIDE_BYTES
    count = min(AT_ONCE, (free - fixed) // of_frame)
    if count < STEPS:
        raise ResourceError(
            f"the search takes about {(fixed + STEPS * of_frame) / 2**30:.1f} GiB of the GPU's memory, and "
            f"{free / 2**30:.1f} are free.",
            "End what else runs on it, or give --device cpu, which takes hours; --forecast tells how many.",
        )
    return DeviceMemory(count, fixed + count * of_frame)


def frame_bytes(arch: Architecture) -> int:
    """What a frame takes while it is in the backbones, at most: all towers' largest layers added up."""
    tokens = arch.image_tokens + TEXT_TOKENS
    keys_and_values = 2 * arch.text.depth * tokens * arch.text.width
    numbers = _layer(arch.vision, arch.vision.tokens) + _layer(arch.text, tokens) + keys_and_values
    if arch.clip:
        numbers += _layer(arch.clip.vision, arch.clip.vision.tokens)
    return numbers * FLOAT32_BYTES


def _layer(tower: VisionTower | TextTower, tokens: int) -> int:
    """Numbers alive in a layer: its input and output, queries, keys and values, the MLP, attention's steps."""
    return tokens * (8 * tower.width + 3 * tower.mlp) + 4 * tower.heads * tokens**2
