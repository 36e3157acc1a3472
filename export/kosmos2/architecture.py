"""The shapes of a policy, as plain numbers.

Everything here follows from the names and shapes of a state dict (`layout.py` reads them), and is all
that is needed to build the policy in torch, to write its graph, or to generate a sample of it.
Naming follows transformers' Kosmos-2 and CLIP. Widths are multiples of 64: both models use heads of 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

HEAD_SIZE = 64
# A manifest holds an architecture too, and whoever builds it allocates by these.
Size = Annotated[int, Meta(gt=0, le=1 << 24)]
Depth = Annotated[int, Meta(gt=0, le=9999)]

LayoutName = Literal["pure", "hybrid-a", "hybrid-b", "hybrid-c"]
ClipForm = Literal["none", "transformers", "open_clip"]


@dataclass(frozen=True)
class VisionTower:
    """A CLIP-style vision transformer: Kosmos-2's ViT-L/14 or CLIP's ViT-B/32."""

    width: Size
    depth: Depth
    mlp: Size
    patch: Size
    image_size: Size

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

    width: Size
    depth: Depth
    mlp: Size
    vocabulary: Size
    context: Annotated[int, Meta(ge=0, le=1 << 24)] = 0

    @property
    def heads(self) -> int:
        return self.width // HEAD_SIZE


@dataclass(frozen=True)
class Clip:
    form: ClipForm
    vision: VisionTower
    text: TextTower
    embed: Size  # width of the shared projection, 512


@dataclass(frozen=True)
class Lstm:
    input: Size
    hidden: Size
    layers: Depth


@dataclass(frozen=True)
class HeadLayer:
    """One module of `actions.mlp`, a torch Sequential: `index` is its position there.

    Positions without parameters (ReLU, Dropout) leave gaps: `relu` tells that an activation follows.
    """

    index: Annotated[int, Meta(ge=0, le=9999)]
    kind: Literal["linear", "layernorm"]
    input: Size
    output: Size
    relu: bool


@dataclass(frozen=True)
class Architecture:
    layout: LayoutName
    vision: VisionTower
    text: TextTower
    image_tokens: Size  # 64 latent queries
    clip: Clip | None
    fusion: tuple[Size, Size] | None  # input and output width of `feature_fusion`
    lstm: Lstm
    head: Annotated[tuple[HeadLayer, ...], Meta(min_length=1)]

    @property
    def action_size(self) -> int:
        return self.head[-1].output


def shapes_in_words(arch: Architecture) -> str:
    """For `vla-inspect`: a part of the policy on each line."""
    lines = [
        f"Kosmos-2 vision {_tower(arch.vision)}",
        f"Kosmos-2 text   {_tower(arch.text)}, {arch.image_tokens} image tokens",
    ]
    if arch.clip:
        lines.append(f"CLIP vision     {_tower(arch.clip.vision)} (named as in {arch.clip.form})")
        lines.append(f"CLIP text       {_tower(arch.clip.text)}, embeds to {arch.clip.embed}")
    if arch.fusion:
        lines.append(f"fusion {arch.fusion[0]} -> {arch.fusion[1]}")
    lines.append(f"LSTM {arch.lstm.input} -> {arch.lstm.hidden}, {arch.lstm.layers} layers")
    names = {"linear": "Linear", "layernorm": "LayerNorm"}
    head = (
        f"{names[layer.kind]} {layer.input}-{layer.output}{' ReLU' if layer.relu else ''}"
        for layer in arch.head
    )
    return "\n".join([*lines, f"head {', '.join(head)}"])


def _tower(tower: VisionTower | TextTower) -> str:
    size = f"{tower.width} wide, {tower.depth} layers, MLP {tower.mlp}"
    if isinstance(tower, VisionTower):
        return f"{size}, image {tower.image_size}, patch {tower.patch}"
    return f"{size}, vocabulary {tower.vocabulary}"
