"""The shapes of a policy in words, for `vla-inspect`."""

from __future__ import annotations

from .architecture import Architecture, TextTower, VisionTower


def shapes_in_words(arch: Architecture) -> str:
    """A part of the policy on each line."""
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
