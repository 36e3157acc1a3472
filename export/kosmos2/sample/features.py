"""How a sample policy's weights are drawn: noise, with what makes trained transformers hard in half precision.

Plain noise is too easy: nothing in it overflows or cancels. Trained models have, and samples get:

- Outlier channels. A few channels of the residual stream hold values of hundreds to thousands at every
  token, in the same places in all layers (Dettmers et al., LLM.int8(), arXiv:2208.07339; as constants:
  Sun et al., Massive Activations, arXiv:2402.17762). Their squares overflow half's 65504, so a LayerNorm
  computed in half fails.
- Signal on top of them. What an outlier channel says beyond its constant is as small as in any other
  channel, so a residual stream kept in half (steps of 1 between 1024 and 2048) rounds it away.
- Large LayerNorm gains (and biases, which take the constant off again): with outliers in the deviation,
  everything else leaves a LayerNorm small and is scaled back up.
- Loud hidden units in the MLPs, hundreds of times the others.
- Residual growth: each layer adds more than the one before.

In FP32 all is well-scaled: LayerNorms hand on normal channels at size 1 and outlier channels around 10
(as LLM.int8() found them), products stay far below 20,000. So half-precision weights and products around
FP32 LayerNorms and an FP32 residual stream keep their accuracy, and plain half precision does not.

Scales are worked out, not fitted: `Stream` follows the residual stream through the layers, and weights
are divided by the square root of what they sum over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from vla_edge.export.family_samples import Recipe, Shape
from vla_edge.export.kosmos2.architecture import Architecture, TextTower, VisionTower
from vla_edge.export.kosmos2.tensors import (
    CLIP,
    CLIP_LAYERS,
    FUSION,
    HEAD,
    KOSMOS,
    KOSMOS_TEXT_LAYERS,
    KOSMOS_VISION_LAYERS,
    LSTM,
)

from .stream import FIRST_CONSTANT, STREAM_START, Stream

# Of queries and keys: scores vary by its square, which makes attention neither flat nor one-hot.
ATTENTION_SIZE = 1.2
# What a loud hidden unit holds, and by how much it varies.
LOUD_CONSTANT, LOUD_SIGNAL = 300.0, 10.0
GELU_SIZE = 0.6  # root mean square of gelu(x) for x of size 1
LSTM_GATE = 1.0
LSTM_OUTPUT = 0.2  # size of sigmoid(o) tanh(sigmoid(i) tanh(g)) for gates of that size
FEATURE_SIZE = 0.8  # of pooled token states
ACTION_SIZE = 0.25
BIAS_NOISE = 0.02
GAIN_NOISE = 0.15
# The maximum over some eighty tokens lies that far above their mean; the last LayerNorm takes it off, so
# that pooled features are centred.
MAXIMUM_SHIFT = -2.2
LAST_NORM_OUTLIER_SIZE = 2.0


def recipe(name: str, shape: Shape, arch: Architecture) -> Recipe:
    """How the values of one parameter are drawn.

    Args:
        name: a name that `tensors.expected_tensors(arch)` gives.
        shape: its shape.
        arch: the policy's shapes.
    """
    streams = _streams(arch)
    for prefix, tower in _layer_prefixes(arch).items():
        if name.startswith(prefix):
            layer, _, rest = name.removeprefix(prefix).partition(".")
            return _layer_recipe(streams[tower], int(layer), rest)
    if name.startswith((LSTM, HEAD, FUSION)):
        return _trained_recipe(name, shape, arch)
    return _end_recipe(name, shape, streams)


def _layer_prefixes(arch: Architecture) -> dict[str, str]:
    prefixes = {KOSMOS_VISION_LAYERS: "vision", KOSMOS_TEXT_LAYERS: "text"}
    if arch.clip:
        vision, text = CLIP_LAYERS[arch.clip.form]
        prefixes |= {vision: "clip.vision", text: "clip.text"}
    return prefixes


def _streams(arch: Architecture) -> dict[str, Stream]:
    towers: dict[str, VisionTower | TextTower] = {"vision": arch.vision, "text": arch.text}
    if arch.clip:
        towers |= {"clip.vision": arch.clip.vision, "clip.text": arch.clip.text}
    return {
        name: Stream(tower.width, tower.depth, tower.mlp, name.endswith("vision"), inner_norms=name == "text")
        for name, tower in towers.items()
    }


# What each part of a layer is, in the three naming schemes.
_ROLES = {
    **dict.fromkeys(("self_attn_layer_norm", "layer_norm1", "ln_1"), "attention_norm"),
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "attn.in_proj"), "query_key"),
    "self_attn.v_proj": "value",
    **dict.fromkeys(("self_attn.out_proj", "attn.out_proj"), "attention_out"),
    "self_attn.inner_attn_ln": "inner_norm",
    **dict.fromkeys(("final_layer_norm", "layer_norm2", "ln_2"), "mlp_norm"),
    **dict.fromkeys(("ffn.fc1", "mlp.fc1", "mlp.c_fc"), "mlp_in"),
    "ffn.ffn_layernorm": "hidden_norm",
    **dict.fromkeys(("ffn.fc2", "mlp.fc2", "mlp.c_proj"), "mlp_out"),
}
_MLP_ROLES = ("mlp_norm", "mlp_in", "hidden_norm", "mlp_out")


def _layer_recipe(stream: Stream, layer: int, name: str) -> Recipe:
    """A parameter inside a layer: `mlp.fc1.weight`, or open_clip's `attn.in_proj_weight`."""
    kind = "weight" if name.endswith("weight") else "bias"
    role = _ROLES[name.removesuffix(kind)[:-1]]
    step = 2 * layer + (role in _MLP_ROLES)
    if role in ("attention_norm", "mlp_norm"):
        return _stream_norm(stream, step, kind, stream.outlier_size(step))
    if role == "inner_norm":
        return Recipe(GAIN_NOISE, 1.0) if kind == "weight" else Recipe(BIAS_NOISE)
    if role == "hidden_norm":
        return _hidden_norm(stream, kind)
    if role in ("attention_out", "mlp_out"):
        return _output(stream, step, role, kind)
    return _input(stream, role, kind)


def _stream_norm(stream: Stream, step: int, kind: str, outlier_size: float, shift: float = 0.0) -> Recipe:
    """A LayerNorm over the residual stream that hands on normal channels at size 1, shifted."""
    gain = stream.deviation(step) / stream.normal(step)
    outlier_gain = gain * outlier_size
    if kind == "weight":
        return Recipe(GAIN_NOISE * gain, gain, fixed=dict.fromkeys(stream.outliers, outlier_gain))
    level = stream.constant(step) / stream.deviation(step)
    fixed = {channel: shift - sign * level * outlier_gain for channel, sign in stream.outliers.items()}
    return Recipe(BIAS_NOISE, shift, fixed=fixed)


def _input(stream: Stream, role: str, kind: str) -> Recipe:
    """Projections that read a LayerNorm of the stream: queries, keys, values, hidden units."""
    loud = stream.loud_units if role == "mlp_in" else ()
    if kind == "bias":
        return Recipe(BIAS_NOISE, fixed=dict.fromkeys(loud, LOUD_CONSTANT))
    # Outlier channels double what is read, in squares.
    size = ATTENTION_SIZE if role == "query_key" else 1.0
    return Recipe(size / math.sqrt(2 * stream.width), rows=dict.fromkeys(loud, LOUD_SIGNAL))


def _hidden_norm(stream: Stream, kind: str) -> Recipe:
    """The LayerNorm over an MLP's hidden units: undoes what the loud ones do to deviation and mean."""
    share = len(stream.loud_units) / stream.mlp
    deviation = math.hypot(GELU_SIZE, LOUD_CONSTANT * math.sqrt(share * (1 - share)))
    if kind == "weight":
        gain = deviation / GELU_SIZE
        return Recipe(
            GAIN_NOISE * gain, gain, fixed=dict.fromkeys(stream.loud_units, deviation / LOUD_SIGNAL)
        )
    level = LOUD_CONSTANT * (1 - share) / LOUD_SIGNAL
    return Recipe(
        BIAS_NOISE, LOUD_CONSTANT * share / GELU_SIZE, fixed=dict.fromkeys(stream.loud_units, -level)
    )


def _output(stream: Stream, step: int, role: str, kind: str) -> Recipe:
    """What a sub-layer adds to the stream; its bias adds to the constant of the outlier channels."""
    if kind == "bias":
        growth = stream.constant(step + 1) - stream.constant(step)
        return Recipe(BIAS_NOISE, fixed={channel: sign * growth for channel, sign in stream.outliers.items()})
    inputs = stream.width if role == "attention_out" else stream.mlp
    # Attention averages values about as much as gelu shrinks them; an inner LayerNorm brings both back to 1.
    size = 1.0 if stream.inner_norms else GELU_SIZE
    loud = () if stream.inner_norms or role == "attention_out" else stream.loud_units
    return Recipe(
        stream.update(step) / (size * math.sqrt(inputs)), columns=dict.fromkeys(loud, 1 / LOUD_CONSTANT)
    )


def _trained_recipe(name: str, shape: Shape, arch: Architecture) -> Recipe:
    """Fusion, LSTM and head."""
    if name.startswith(LSTM):
        return _lstm_recipe(name.removeprefix(LSTM), shape)
    if name.startswith(FUSION):
        return Recipe(1 / math.sqrt(shape[1])) if len(shape) == 2 else Recipe(BIAS_NOISE)
    index, _, kind = name.removeprefix(HEAD).partition(".")
    if kind == "bias":
        return Recipe(BIAS_NOISE)
    layer = next(layer for layer in arch.head if layer.index == int(index))
    if layer.kind == "layernorm":
        return Recipe(GAIN_NOISE, 1.0)
    size = (1 / LSTM_OUTPUT if layer is arch.head[0] else 1.0) * (
        ACTION_SIZE if layer is arch.head[-1] else 1.0
    )
    # A ReLU halves the squares.
    return Recipe(size * math.sqrt(2 / layer.input))


def _lstm_recipe(name: str, shape: Shape) -> Recipe:
    if name.startswith("bias"):
        return Recipe(BIAS_NOISE)
    read_size = FEATURE_SIZE if name == "weight_ih_l0" else LSTM_OUTPUT
    # The state has less say than the frame.
    gate = LSTM_GATE if name.startswith("weight_ih") else 0.3 * LSTM_GATE
    return Recipe(gate / (read_size * math.sqrt(shape[1])))


_How = Callable[[Mapping[str, Stream], Shape, str], Recipe]


def _end_recipe(name: str, shape: Shape, streams: Mapping[str, Stream]) -> Recipe:
    """Tensors before and after the layers."""
    kind = "bias" if name.endswith("bias") else "weight"
    for pattern, how in _ENDS.items():
        if re.fullmatch(pattern, name):
            return how(streams, shape, kind)
    raise ValueError(f"no recipe for {name}")


def _product(size: float) -> _How:
    """A matrix product that hands on inputs of size 1 at `size`."""
    return lambda streams, shape, kind: Recipe(size / math.sqrt(math.prod(shape[1:])))


def _transposed_product(streams: Mapping[str, Stream], shape: Shape, kind: str) -> Recipe:
    return Recipe(1 / math.sqrt(shape[0]))


def _noise(std: float, mean: float = 0.0) -> _How:
    return lambda streams, shape, kind: Recipe(std, mean)


def _beside_width(size: float) -> _How:
    """For what the decoder multiplies by the square root of its width."""
    return lambda streams, shape, kind: Recipe(size / math.sqrt(shape[-1]))


def _first_norm(tower: str) -> _How:
    """A LayerNorm that starts the stream, and the constants of its outlier channels with it."""

    def how(streams: Mapping[str, Stream], shape: Shape, kind: str) -> Recipe:
        if kind == "weight":
            return Recipe(GAIN_NOISE, STREAM_START)
        fixed = {channel: sign * FIRST_CONSTANT for channel, sign in streams[tower].outliers.items()}
        return Recipe(BIAS_NOISE, fixed=fixed)

    return how


def _last_norm(tower: str, shift: float = 0.0) -> _How:
    return lambda streams, shape, kind: _stream_norm(
        streams[tower], streams[tower].steps, kind, LAST_NORM_OUTLIER_SIZE, shift
    )


_PROJECTION = rf"{KOSMOS}image_to_text_projection\."
_ENDS: dict[str, _How] = {
    r".*\.(patch_embedding|conv1)\.weight": _product(1.0),
    # Positions and class tokens are small beside patches, so that what the image shows matters.
    r".*(class_embedding|position_embedding\.weight|positional_embedding)": _noise(0.15),
    rf"{KOSMOS}text_model\.model\.embed_tokens\.weight": _beside_width(STREAM_START),
    rf"{CLIP}(text_model\.embeddings\.)?token_embedding\.weight": _noise(STREAM_START),
    rf"{KOSMOS}vision_model\.model\.pre_layrnorm\.\w+": _first_norm("vision"),
    rf"{CLIP}(vision_model\.pre_layrnorm|visual\.ln_pre)\.\w+": _first_norm("clip.vision"),
    rf"{KOSMOS}text_model\.model\.layer_norm\.\w+": _last_norm("text", MAXIMUM_SHIFT),
    rf"{KOSMOS}vision_model\.model\.post_layernorm\.\w+": _last_norm("vision"),
    rf"{CLIP}(vision_model\.post_layernorm|visual\.ln_post)\.\w+": _last_norm("clip.vision"),
    rf"{CLIP}(text_model\.final_layer_norm|ln_final)\.\w+": _last_norm("clip.text"),
    rf"{CLIP}(visual|text)_projection\.weight": _product(1.0),
    rf"{CLIP}(visual\.proj|text_projection)": _transposed_product,
    rf"{CLIP}logit_scale": _noise(0.0, math.log(100)),
    rf"{_PROJECTION}latent_query": _noise(1.0),
    # It reads vectors of length 1, not channels of size 1.
    rf"{_PROJECTION}dense\.weight": _noise(1.0),
    rf"{_PROJECTION}x_attn\.[qk]_proj\.weight": _product(ATTENTION_SIZE),
    rf"{_PROJECTION}x_attn\.v_proj\.weight": _product(1.0),
    # It writes what the decoder multiplies by the square root of its width; attention has halved its input.
    rf"{_PROJECTION}x_attn\.out_proj\.weight": lambda streams, shape, kind: Recipe(
        2 * STREAM_START / shape[-1]
    ),
    rf"{_PROJECTION}.*bias": _noise(BIAS_NOISE),
}
