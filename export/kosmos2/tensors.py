"""Every parameter of a policy: its name and its shape, by formula.

The formulas are written once, with names for the sizes (`"text.width"`, `"4*lstm.hidden"`). An
`Outline` says which tensors there are (how many layers of each kind), `sizes` what the names stand
for. `expected_tensors` fills in the sizes of an architecture; `layout.py` goes the other way and
solves for the sizes that a file's shapes imply.

Names are those of transformers' `Kosmos2Model` and `CLIPModel`, of `open_clip.CLIP`, and of
`torch.nn.LSTM`; the tests build those modules and compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from vla_edge.export.family_samples import Shape

from .architecture import Architecture, ClipForm, TextTower, VisionTower

# A dimension is a number, the name of a size, or a multiple of one: 3, "text.width", "4*lstm.hidden".
Dimension = int | str
Formulas = dict[str, tuple[Dimension, ...]]

KOSMOS = "kosmos_model."
CLIP = "clip_model."
FUSION = "feature_fusion."
LSTM = "rnn."
HEAD = "actions.mlp."

KOSMOS_VISION_LAYERS = f"{KOSMOS}vision_model.model.encoder.layers."
KOSMOS_TEXT_LAYERS = f"{KOSMOS}text_model.model.layers."
CLIP_LAYERS: Mapping[ClipForm, tuple[str, str]] = {
    "transformers": (f"{CLIP}vision_model.encoder.layers.", f"{CLIP}text_model.encoder.layers."),
    "open_clip": (f"{CLIP}visual.transformer.resblocks.", f"{CLIP}transformer.resblocks."),
}


@dataclass(frozen=True)
class HeadModule:
    """A module of `actions.mlp` that has parameters, before its widths are known."""

    index: int
    kind: Literal["linear", "layernorm"]


@dataclass(frozen=True)
class Outline:
    """Which tensors a policy has; depths count layers. CLIP depths are (vision, text)."""

    vision_depth: int
    text_depth: int
    clip_form: ClipForm
    clip_depths: tuple[int, int]
    lstm_layers: int
    head: tuple[HeadModule, ...]

    @property
    def hybrid(self) -> bool:
        return self.clip_form != "none"


def expected_tensors(arch: Architecture) -> dict[str, Shape]:
    """Name and shape of every tensor in the state dict of a policy.

    Args:
        arch: the policy's shapes.

    Returns:
        Names in the order of the modules, with `feature_fusion` as a bare Linear.
    """
    sizes = sizes_of(arch)
    return {name: evaluate(formula, sizes) for name, formula in formulas(outline_of(arch)).items()}


def outline_of(arch: Architecture) -> Outline:
    """The outline of an architecture."""
    clip = arch.clip
    return Outline(
        vision_depth=arch.vision.depth,
        text_depth=arch.text.depth,
        clip_form=clip.form if clip else "none",
        clip_depths=(clip.vision.depth, clip.text.depth) if clip else (0, 0),
        lstm_layers=arch.lstm.layers,
        head=tuple(HeadModule(layer.index, layer.kind) for layer in arch.head),
    )


def sizes_of(arch: Architecture) -> dict[str, int]:
    """What each named size in the formulas stands for."""
    sizes = {
        **_vision_sizes("vision", arch.vision),
        **_text_sizes("text", arch.text),
        "image_tokens": arch.image_tokens,
        "lstm.input": arch.lstm.input,
        "lstm.hidden": arch.lstm.hidden,
        **{f"head.{layer.index}": layer.output for layer in arch.head},
    }
    if arch.clip:
        sizes |= _vision_sizes("clip.vision", arch.clip.vision) | _text_sizes("clip.text", arch.clip.text)
        sizes |= {"clip.embed": arch.clip.embed, "clip.text.context": arch.clip.text.context}
    if arch.fusion:
        sizes["fusion.input"] = arch.fusion[0]
    return sizes


def formulas(outline: Outline) -> Formulas:
    """The shape of every tensor that the outline has, as formulas over named sizes."""
    table = _kosmos(outline)
    if outline.clip_form == "transformers":
        table |= _transformers_clip(outline)
    elif outline.clip_form == "open_clip":
        table |= _open_clip(outline)
    if outline.hybrid:
        table |= _linear(FUSION, "lstm.input", "fusion.input")
    return table | _lstm(outline) | _head(outline)


def factor_and_size(dimension: Dimension) -> tuple[int, str | None]:
    """Split a dimension: `"4*lstm.hidden"` is `(4, "lstm.hidden")`, `3` is `(3, None)`."""
    if isinstance(dimension, int):
        return dimension, None
    factor, star, size = dimension.partition("*")
    return (int(factor), size) if star else (1, dimension)


def evaluate(formula: tuple[Dimension, ...], sizes: Mapping[str, int]) -> Shape:
    """The shape that a formula gives for known sizes."""
    parts = (factor_and_size(dimension) for dimension in formula)
    return tuple(factor * (sizes[size] if size else 1) for factor, size in parts)


def _vision_sizes(prefix: str, tower: VisionTower) -> dict[str, int]:
    return {
        f"{prefix}.width": tower.width,
        f"{prefix}.mlp": tower.mlp,
        f"{prefix}.patch": tower.patch,
        f"{prefix}.tokens": tower.tokens,
    }


def _text_sizes(prefix: str, tower: TextTower) -> dict[str, int]:
    return {
        f"{prefix}.width": tower.width,
        f"{prefix}.mlp": tower.mlp,
        f"{prefix}.vocabulary": tower.vocabulary,
    }


def _linear(prefix: str, output: Dimension, input_: Dimension) -> Formulas:
    return {f"{prefix}weight": (output, input_), f"{prefix}bias": (output,)}


def _norm(prefix: str, width: Dimension) -> Formulas:
    return {f"{prefix}weight": (width,), f"{prefix}bias": (width,)}


def _attention(prefix: str, width: str) -> Formulas:
    table: Formulas = {}
    for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
        table |= _linear(f"{prefix}{projection}.", width, width)
    return table


def _kosmos(outline: Outline) -> Formulas:
    """transformers' Kosmos2Model: ViT-L/14, a decoder with sub-layer norms, and 64 latent queries."""
    text, projection = f"{KOSMOS}text_model.model.", f"{KOSMOS}image_to_text_projection."
    table: Formulas = {f"{text}embed_tokens.weight": ("text.vocabulary", "text.width")}
    for prefix in _layers(KOSMOS_TEXT_LAYERS, outline.text_depth):
        table |= kosmos_text_layer(prefix)
    table |= _norm(f"{text}layer_norm.", "text.width")
    table |= _vision_ends(f"{KOSMOS}vision_model.model.", "vision")
    for prefix in _layers(KOSMOS_VISION_LAYERS, outline.vision_depth):
        table |= encoder_layer(prefix, "vision")
    table[f"{projection}latent_query"] = ("image_tokens", "text.width")
    table |= _linear(f"{projection}dense.", "text.width", "vision.width")
    return table | _attention(f"{projection}x_attn.", "text.width")


def kosmos_text_layer(prefix: str) -> Formulas:
    """One decoder layer of Kosmos-2."""
    width, mlp = "text.width", "text.mlp"
    return {
        **_attention(f"{prefix}self_attn.", width),
        **_norm(f"{prefix}self_attn.inner_attn_ln.", width),
        **_norm(f"{prefix}self_attn_layer_norm.", width),
        **_linear(f"{prefix}ffn.fc1.", mlp, width),
        **_linear(f"{prefix}ffn.fc2.", width, mlp),
        **_norm(f"{prefix}ffn.ffn_layernorm.", mlp),
        **_norm(f"{prefix}final_layer_norm.", width),
    }


def encoder_layer(prefix: str, tower: str) -> Formulas:
    """One encoder layer in transformers' CLIP form; Kosmos-2's vision tower has it too."""
    width, mlp = f"{tower}.width", f"{tower}.mlp"
    return {
        **_attention(f"{prefix}self_attn.", width),
        **_norm(f"{prefix}layer_norm1.", width),
        **_linear(f"{prefix}mlp.fc1.", mlp, width),
        **_linear(f"{prefix}mlp.fc2.", width, mlp),
        **_norm(f"{prefix}layer_norm2.", width),
    }


def residual_block(prefix: str, tower: str) -> Formulas:
    """One layer in open_clip's form: torch's fused attention projection."""
    width, mlp = f"{tower}.width", f"{tower}.mlp"
    return {
        **_norm(f"{prefix}ln_1.", width),
        f"{prefix}attn.in_proj_weight": (f"3*{width}", width),
        f"{prefix}attn.in_proj_bias": (f"3*{width}",),
        **_linear(f"{prefix}attn.out_proj.", width, width),
        **_norm(f"{prefix}ln_2.", width),
        **_linear(f"{prefix}mlp.c_fc.", mlp, width),
        **_linear(f"{prefix}mlp.c_proj.", width, mlp),
    }


def lstm_layer(layer: int, input_: str) -> Formulas:
    """One layer of torch.nn.LSTM: four gates stacked, two biases."""
    gates = "4*lstm.hidden"
    return {
        f"{LSTM}weight_ih_l{layer}": (gates, input_),
        f"{LSTM}weight_hh_l{layer}": (gates, "lstm.hidden"),
        f"{LSTM}bias_ih_l{layer}": (gates,),
        f"{LSTM}bias_hh_l{layer}": (gates,),
    }


def _vision_ends(prefix: str, tower: str) -> Formulas:
    """What stands before and after the layers of a vision tower in transformers' CLIP form."""
    width, patch = f"{tower}.width", f"{tower}.patch"
    return {
        f"{prefix}embeddings.class_embedding": (width,),
        f"{prefix}embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{prefix}embeddings.position_embedding.weight": (f"{tower}.tokens", width),
        **_norm(f"{prefix}pre_layrnorm.", width),
        **_norm(f"{prefix}post_layernorm.", width),
    }


def _transformers_clip(outline: Outline) -> Formulas:
    text = f"{CLIP}text_model."
    vision_layers, text_layers = CLIP_LAYERS["transformers"]
    table: Formulas = {
        f"{CLIP}logit_scale": (),
        f"{text}embeddings.token_embedding.weight": ("clip.text.vocabulary", "clip.text.width"),
        f"{text}embeddings.position_embedding.weight": ("clip.text.context", "clip.text.width"),
    }
    for prefix in _layers(text_layers, outline.clip_depths[1]):
        table |= encoder_layer(prefix, "clip.text")
    table |= _norm(f"{text}final_layer_norm.", "clip.text.width")
    table |= _vision_ends(f"{CLIP}vision_model.", "clip.vision")
    for prefix in _layers(vision_layers, outline.clip_depths[0]):
        table |= encoder_layer(prefix, "clip.vision")
    table[f"{CLIP}visual_projection.weight"] = ("clip.embed", "clip.vision.width")
    table[f"{CLIP}text_projection.weight"] = ("clip.embed", "clip.text.width")
    return table


def _open_clip(outline: Outline) -> Formulas:
    visual = f"{CLIP}visual."
    vision_layers, text_layers = CLIP_LAYERS["open_clip"]
    table: Formulas = {
        f"{CLIP}positional_embedding": ("clip.text.context", "clip.text.width"),
        f"{CLIP}text_projection": ("clip.text.width", "clip.embed"),
        f"{CLIP}logit_scale": (),
        f"{visual}class_embedding": ("clip.vision.width",),
        f"{visual}positional_embedding": ("clip.vision.tokens", "clip.vision.width"),
        f"{visual}proj": ("clip.vision.width", "clip.embed"),
        f"{visual}conv1.weight": ("clip.vision.width", 3, "clip.vision.patch", "clip.vision.patch"),
        **_norm(f"{visual}ln_pre.", "clip.vision.width"),
    }
    for prefix in _layers(vision_layers, outline.clip_depths[0]):
        table |= residual_block(prefix, "clip.vision")
    table |= _norm(f"{visual}ln_post.", "clip.vision.width")
    for prefix in _layers(text_layers, outline.clip_depths[1]):
        table |= residual_block(prefix, "clip.text")
    table[f"{CLIP}token_embedding.weight"] = ("clip.text.vocabulary", "clip.text.width")
    return table | _norm(f"{CLIP}ln_final.", "clip.text.width")


def _lstm(outline: Outline) -> Formulas:
    # Without fusion the LSTM reads the decoder's features as they are.
    first = "lstm.input" if outline.hybrid else "text.width"
    table: Formulas = {}
    for layer in range(outline.lstm_layers):
        table |= lstm_layer(layer, first if layer == 0 else "lstm.hidden")
    return table


def _head(outline: Outline) -> Formulas:
    """Each module reads what the one before it writes; a LayerNorm keeps the width."""
    table: Formulas = {}
    width = "lstm.hidden"
    for module in outline.head:
        prefix = f"{HEAD}{module.index}."
        if module.kind == "linear":
            table |= _linear(prefix, f"head.{module.index}", width)
            width = f"head.{module.index}"
        else:
            table |= _norm(prefix, width)
    return table


def _layers(prefix: str, depth: int) -> Iterator[str]:
    return (f"{prefix}{index}." for index in range(depth))
