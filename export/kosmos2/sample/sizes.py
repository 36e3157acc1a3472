"""The shapes of sample policies: those of the trained ones, and two smaller ones of the same construction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vla_edge.export.kosmos2.architecture import (
    Architecture,
    Clip,
    ClipForm,
    HeadLayer,
    LayoutName,
    Lstm,
    TextTower,
    VisionTower,
)
from vla_edge.export.kosmos2.layout import head_layers
from vla_edge.export.kosmos2.tensors import HeadModule

SizeName = Literal["tiny", "small", "full"]
SIZES: tuple[SizeName, ...] = ("tiny", "small", "full")
LAYOUTS: tuple[LayoutName, ...] = ("pure", "hybrid-a", "hybrid-b", "hybrid-c")

# CLIP's own tokenizer is used with it, so its vocabulary cannot shrink where the text tower is used.
CLIP_VOCABULARY = 49408
CLIP_CONTEXT = 77


@dataclass(frozen=True)
class _Size:
    vision: VisionTower
    text: TextTower
    image_tokens: int
    clip_vision: VisionTower
    clip_text: TextTower
    embed: int
    hidden: int
    lstm_layers: int


# Widths are such that no two layouts have the same fusion input, and no two towers the same width,
# so that a mix-up of towers cannot go unnoticed. The vocabularies hold the sample tokenizer's.
_SIZES: dict[SizeName, _Size] = {
    "tiny": _Size(
        vision=VisionTower(width=64, depth=2, mlp=192, patch=16, image_size=112),
        text=TextTower(width=192, depth=2, mlp=384, vocabulary=2048),
        image_tokens=8,
        clip_vision=VisionTower(width=128, depth=2, mlp=256, patch=28, image_size=112),
        clip_text=TextTower(width=64, depth=1, mlp=128, vocabulary=512, context=CLIP_CONTEXT),
        embed=64,
        hidden=128,
        lstm_layers=2,
    ),
    "small": _Size(
        vision=VisionTower(width=512, depth=8, mlp=2048, patch=14, image_size=224),
        text=TextTower(width=1024, depth=6, mlp=4096, vocabulary=4096),
        image_tokens=64,
        clip_vision=VisionTower(width=384, depth=6, mlp=1536, patch=32, image_size=224),
        clip_text=TextTower(width=256, depth=4, mlp=1024, vocabulary=4096, context=CLIP_CONTEXT),
        embed=192,
        hidden=512,
        lstm_layers=4,
    ),
    "full": _Size(
        vision=VisionTower(width=1024, depth=24, mlp=4096, patch=14, image_size=224),
        text=TextTower(width=2048, depth=24, mlp=8192, vocabulary=65037),
        image_tokens=64,
        clip_vision=VisionTower(width=768, depth=12, mlp=3072, patch=32, image_size=224),
        clip_text=TextTower(width=512, depth=12, mlp=2048, vocabulary=CLIP_VOCABULARY, context=CLIP_CONTEXT),
        embed=512,
        hidden=1024,
        lstm_layers=4,
    ),
}

# Positions in `actions.mlp`: the numbers left out are ReLU and Dropout.
_HEADS: dict[LayoutName, dict[int, Literal["linear", "layernorm"]]] = {
    "pure": {0: "linear", 2: "linear", 4: "linear", 6: "linear"},
    "hybrid-a": {0: "linear", 1: "layernorm", 4: "linear", 5: "layernorm", 8: "linear"},
    "hybrid-b": {0: "linear", 2: "linear", 4: "linear", 6: "linear", 8: "linear"},
    "hybrid-c": {0: "linear", 2: "linear", 3: "layernorm", 5: "linear", 7: "linear"},
}
# Widths of the Linear layers as fractions of the LSTM's: 1024-1024-512-256-2 is (1, 2, 4) and the action.
_HEAD_DIVISORS: dict[LayoutName, tuple[int, ...]] = {
    "pure": (1, 2, 4),
    "hybrid-a": (2, 2),
    "hybrid-b": (1, 1, 2, 2),
    "hybrid-c": (1, 2, 2),
}
_ACTION_SIZE = 2


def sample_architecture(layout: LayoutName, clip_form: ClipForm, size: SizeName) -> Architecture:
    """The shapes of a sample policy.

    Args:
        layout: pure, or a hybrid's.
        clip_form: naming of the CLIP tensors; not used for pure.
        size: "tiny" (about 1 M parameters), "small" (about 125 M) or "full" (as trained).
    """
    shape = _SIZES[size]
    hybrid = layout != "pure"
    return Architecture(
        layout=layout,
        vision=shape.vision,
        text=shape.text,
        image_tokens=shape.image_tokens,
        clip=_clip(shape, layout, clip_form) if hybrid else None,
        fusion=(_fusion_input(shape, layout), shape.text.width) if hybrid else None,
        lstm=Lstm(input=shape.text.width, hidden=shape.hidden, layers=shape.lstm_layers),
        head=_head(layout, shape.hidden),
    )


def _clip(shape: _Size, layout: LayoutName, form: ClipForm) -> Clip:
    text = replace(shape.clip_text, vocabulary=CLIP_VOCABULARY) if layout == "hybrid-c" else shape.clip_text
    return Clip(form=form, vision=shape.clip_vision, text=text, embed=shape.embed)


def _fusion_input(shape: _Size, layout: LayoutName) -> int:
    if layout == "hybrid-a":
        return shape.text.width + shape.embed
    return shape.vision.width + shape.embed * (2 if layout == "hybrid-c" else 1)


def _head(layout: LayoutName, hidden: int) -> tuple[HeadLayer, ...]:
    modules = tuple(HeadModule(index, kind) for index, kind in _HEADS[layout].items())
    linears = [module.index for module in modules if module.kind == "linear"]
    widths = [hidden // divisor for divisor in _HEAD_DIVISORS[layout]] + [_ACTION_SIZE]
    sizes = {f"head.{index}": width for index, width in zip(linears, widths, strict=True)}
    return head_layers(modules, {**sizes, "lstm.hidden": hidden})
