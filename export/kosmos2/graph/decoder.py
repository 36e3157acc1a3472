"""Kosmos-2's text side: from image states and token ids to pooled features.

What does not depend on the input is computed once, in FP32, when the weights are written: the queries of
the image projection, its keys and values for the latent tokens, the product of its `dense` with the key
and value projections (nothing lies between them), and the positions of the fixed-length prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vla_edge.export.graph.layers import Builder, causal_mask
from vla_edge.export.graph.writer import Value
from vla_edge.export.kosmos2.architecture import HEAD_SIZE, Architecture
from vla_edge.export.kosmos2.settings import ProjectionAttention

ROOT = "kosmos_model.text_model.model"
PROJECTION = "kosmos_model.image_to_text_projection"
PAD_POSITION = 1  # fairseq's convention: positions start after the padding index
MOST_CUTS = 48  # between layers; a manifest takes 64 in all
LOWEST = -3.0e38  # below any state, above float32's -inf


@dataclass(frozen=True)
class PromptShape:
    """Where the image sits in the token sequence, and which embedding rows exist.

    Attributes:
        length: tokens in the padded prompt.
        image_start: position of the first image token.
        token_ids: tokenizer id of each embedding row that is kept, or None for all.
    """

    length: int
    image_start: int
    token_ids: tuple[int, ...] | None


Read = Callable[[str], Tensor]


def write_image_projection(
    builder: Builder, states: Value, arch: Architecture, attention: ProjectionAttention
) -> Value:
    """Image states after the last LayerNorm, [B, tokens, vision width] float32 -> image tokens [B, n, text width].

    `Kosmos2ImageToTextProjection`: n latent queries attend to the projected states and to themselves; with
    "causal" the i-th query to the first i + 1 of all these only (see `PolicySettings`).
    """
    graph, dtype, width = builder.graph, builder.precision.matmul, arch.text.width
    heads, count = arch.text.heads, arch.image_tokens
    batch = states.shape[0]

    def split(tensor: Tensor) -> Tensor:
        return tensor.reshape(count, heads, HEAD_SIZE).transpose(0, 1)[None].contiguous()

    def latent(letter: str) -> Callable[[Read], Tensor]:
        scale = HEAD_SIZE**-0.5 if letter == "q" else 1.0
        return lambda read: (
            split(_apply(read, f"{PROJECTION}.x_attn.{letter}_proj", read(f"{PROJECTION}.latent_query")))
            * scale
        )

    def fixed(letter: str) -> Value:
        name = f"{PROJECTION}.latent_{letter}"
        shape = (1, heads, count, HEAD_SIZE)
        return graph.weight(name, dtype, shape, builder.params.folded(latent(letter), dtype, name))

    key_value = _folded_key_value(builder, arch)
    with graph.scope(PROJECTION):
        normalized = builder.normalize(states)
        merged = graph.add(graph.matmul(graph.cast(normalized, dtype), key_value[0]), key_value[1])
        both = []
        for at, letter in enumerate("kv"):
            seen = builder.heads(graph.slice(merged, 2, at * width, (at + 1) * width))
            own = graph.broadcast(fixed(letter), (batch, heads, count, HEAD_SIZE))
            both.append(graph.concat([seen, own], axis=2))
        query = graph.broadcast(fixed("q"), (batch, heads, count, HEAD_SIZE))
        mask = None
        if attention == "causal":
            both = [graph.slice(keys, 2, 0, count) for keys in both]  # no query sees more
            mask = graph.constant(causal_mask(count, builder.precision.softmax))
        mixed = builder.attend(query, both[0], both[1], mask)
        name = f"{PROJECTION}.x_attn.out_proj"
        return graph.cast(builder.linear(mixed, [builder.params.linear(name)], name), "float32")


def write_text(builder: Builder, image: Value, ids: Value, arch: Architecture, prompt: PromptShape) -> Value:
    """Image tokens [B, n, C] and ids [B, L] int32 -> last hidden states [B, L, C] float32.

    Padding is on the right and attention is causal, so no real token ever sees it: the mask matters to
    pooling alone. The graph may be cut before each layer but the first, "text.N".
    """
    graph, precision = builder.graph, builder.precision
    x = graph.cast(_embed(builder, image, ids, arch, prompt), precision.residual)
    causal = graph.constant(causal_mask(prompt.length, precision.softmax))
    step = -(-arch.text.depth // MOST_CUTS)
    for at in range(arch.text.depth):
        if at and at % step == 0:
            graph.cut(f"text.{at}")
        x = _block(builder, x, f"{ROOT}.layers.{at}", causal)
    return builder.layer_norm(x, f"{ROOT}.layer_norm")


def write_pool(builder: Builder, states: Value, mask: Value | None, how: str, name: str) -> Value:
    """Pool [B, L, C] float32 over real tokens ("max", "mean", "last") to [B, C]; `name` is whose tokens."""
    graph = builder.graph
    batch, length, _ = states.shape
    if mask is None:
        mask = graph.constant(np.ones((batch, length), np.int32))
    with graph.scope(f"{name}.pool"):
        if how == "max":
            real = graph.reshape(graph.cast(mask, "bool"), (batch, length, 1))
            floor = graph.scalar(LOWEST, "float32")
            return graph.reduce(
                "ReduceMax", graph.node("Where", [real, states, floor], "float32", states.shape), 1
            )
        weight = graph.reshape(graph.cast(mask, "float32"), (batch, length, 1))
        total = graph.reduce("ReduceSum", weight, 1)
        if how == "mean":
            return graph.binary("Div", graph.reduce("ReduceSum", graph.mul(states, weight), 1), total)
        place = graph.constant(np.arange(1, length + 1, dtype=np.float32)[None, :, None])
        is_last = graph.node(
            "Equal", [place, graph.reshape(total, (batch, 1, 1))], "bool", (batch, length, 1)
        )
        return graph.reduce("ReduceSum", graph.mul(states, graph.cast(is_last, "float32")), 1)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Kosmos-2's positions for tokens 0 .. length-1: [length, width] float32 (fairseq's form: sines, then cosines)."""
    half = width // 2
    rate = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angle = (torch.arange(length).float() + PAD_POSITION + 1)[:, None] * rate[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1).numpy()


def _folded_key_value(builder: Builder, arch: Architecture) -> tuple[Value, Value]:
    """`dense` multiplied into the key and value projections: [vision width, 2 C] and [2 C]."""
    graph, dtype, params = builder.graph, builder.precision.matmul, builder.params
    letters = "kv"

    def weight(read: Read) -> Tensor:
        dense = read(f"{PROJECTION}.dense.weight")
        return torch.cat([(read(f"{PROJECTION}.x_attn.{x}_proj.weight") @ dense).T for x in letters], dim=1)

    def bias(read: Read) -> Tensor:
        dense = read(f"{PROJECTION}.dense.bias")
        return torch.cat([_apply(read, f"{PROJECTION}.x_attn.{x}_proj", dense) for x in letters])

    name, size = f"{PROJECTION}.kv", 2 * arch.text.width
    return (
        graph.weight(
            f"{name}.weight", dtype, (arch.vision.width, size), params.folded(weight, dtype, f"{name}.weight")
        ),
        graph.weight(f"{name}.bias", dtype, (size,), params.folded(bias, dtype, f"{name}.bias")),
    )


def _apply(read: Read, name: str, x: Tensor) -> Tensor:
    return x @ read(f"{name}.weight").T + read(f"{name}.bias")


def _embed(builder: Builder, image: Value, ids: Value, arch: Architecture, prompt: PromptShape) -> Value:
    """Token rows around the image tokens, scaled by sqrt(C), plus positions: [B, L, C] float32.

    The image's place is fixed by the prompt, so this is a concatenation of slices: no mask, no NonZero.
    """
    graph, dtype, width = builder.graph, builder.precision.matmul, arch.text.width
    name, start = f"{ROOT}.embed_tokens.weight", prompt.image_start
    stop = start + arch.image_tokens
    kept = prompt.token_ids
    load = builder.params.plain(name, dtype) if kept is None else builder.params.rows(name, kept, dtype)
    count = arch.text.vocabulary if kept is None else len(kept)
    table = graph.weight(name, dtype, (count, width), load)
    positions = graph.constant(sinusoids(prompt.length, width))
    with graph.scope(f"{ROOT}.embed"):
        pieces = []
        if start:
            pieces.append(graph.cast(graph.gather_rows(table, graph.slice(ids, 1, 0, start)), "float32"))
        pieces.append(graph.cast(image, "float32"))
        if stop < prompt.length:
            rest = graph.gather_rows(table, graph.slice(ids, 1, stop, prompt.length))
            pieces.append(graph.cast(rest, "float32"))
        scaled = graph.mul(graph.concat(pieces, axis=1), graph.scalar(math.sqrt(width), "float32"))
        return graph.add(scaled, positions)


def _block(builder: Builder, x: Value, name: str, causal: Value) -> Value:
    """A Kosmos-2 decoder block (pre-LayerNorm with Magneto's inner LayerNorms): [B, L, C] -> [B, L, C]."""
    graph, params, dtype = builder.graph, builder.params, builder.precision.matmul
    q, k, v = (params.linear(f"{name}.self_attn.{letter}_proj") for letter in "qkv")
    with graph.scope(name):
        normed = graph.cast(builder.layer_norm(x, f"{name}.self_attn_layer_norm"), dtype)
        mixed = builder.self_attention(normed, (q, k, v), causal, f"{name}.self_attn")
        mixed = builder.layer_norm(mixed, f"{name}.self_attn.inner_attn_ln")
        out = f"{name}.self_attn.out_proj"
        x = builder.residual(x, builder.linear(mixed, [params.linear(out)], out))
        hidden = builder.layer_norm(x, f"{name}.final_layer_norm")
        hidden = builder.activation(
            builder.linear(hidden, [params.linear(f"{name}.ffn.fc1")], f"{name}.ffn.fc1"), "gelu"
        )
        hidden = builder.layer_norm(hidden, f"{name}.ffn.ffn_layernorm")
        return builder.residual(
            x, builder.linear(hidden, [params.linear(f"{name}.ffn.fc2")], f"{name}.ffn.fc2")
        )
