"""The shapes of a policy, as plain numbers.

Everything here follows from the names and shapes of a state dict (`layout.py` reads them), and is all
that is needed to build the policy in torch, to write its graph, or to generate a sample of it.
Naming follows transformers' Kosmos-2 and CLIP. Widths are multiples of 64: both models use heads of 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEAD_SIZE = 64

LayoutName = Literal["pure", "hybrid-a", "hybrid-b", "hybrid-c"]
ClipForm = Literal["none", "transformers", "open_clip"]


@dataclass(frozen=True)
class VisionTower:
    """A CLIP-style vision transformer: Kosmos-2's ViT-L/14 or CLIP's ViT-B/32."""

    width: int
    depth: int
    mlp: int
    patch: int
    image_size: int

    @property
    def heads(self) -> int:
        return self.width // HEAD_SIZE

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch) ** 2 + 1


@dataclass(frozen=True)
class TextTower:
    """Kosmos-2's decoder, or CLIP's text encoder (`context` is its number of learned positions, else 0)."""

    width: int
    depth: int
    mlp: int
    vocabulary: int
    context: int = 0

    @property
    def heads(self) -> int:
        return self.width // HEAD_SIZE


@dataclass(frozen=True)
class Clip:
    form: ClipForm
    vision: VisionTower
    text: TextTower
    embed: int  # width of the shared projection, 512


@dataclass(frozen=True)
class Lstm:
    input: int
    hidden: int
    layers: int


@dataclass(frozen=True)
class HeadLayer:
    """One module of `actions.mlp`, a torch Sequential: `index` is its position there.

    Positions without parameters (ReLU, Dropout) leave gaps: `relu` tells that an activation follows.
    """

    index: int
    kind: Literal["linear", "layernorm"]
    input: int
    output: int
    relu: bool


@dataclass(frozen=True)
class Architecture:
    layout: LayoutName
    vision: VisionTower
    text: TextTower
    image_tokens: int  # 64 latent queries
    clip: Clip | None
    fusion: tuple[int, int] | None  # input and output width of `feature_fusion`
    lstm: Lstm
    head: tuple[HeadLayer, ...]

    @property
    def action_size(self) -> int:
        return self.head[-1].output
