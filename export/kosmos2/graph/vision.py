"""Image towers: Kosmos-2's ViT-L/14 and CLIP's ViT-B/32, which differ in names, sizes and activation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_edge.export.graph.layers import Builder
from vla_edge.export.graph.parameters import Parameters, Rows
from vla_edge.export.graph.writer import Value
from vla_edge.export.kosmos2.architecture import Clip, VisionTower

TENSOR_CORE_STEP = 8


@dataclass(frozen=True)
class BlockNames:
    """Where one transformer block keeps its parts."""

    qkv: tuple[Rows, Rows, Rows]
    out: Rows
    norm1: str
    norm2: str
    fc1: Rows
    fc2: Rows


@dataclass(frozen=True)
class TowerNames:
    """Where a tower keeps its parts, in transformers' or open_clip's form."""

    patch: str
    class_embedding: str
    positions: str
    pre_norm: str
    post_norm: str
    blocks: tuple[BlockNames, ...]


def transformers_names(params: Parameters, root: str, depth: int) -> TowerNames:
    """`root` is such as "kosmos_model.vision_model.model" or "clip_model.vision_model"."""

    def block(at: int) -> BlockNames:
        layer = f"{root}.encoder.layers.{at}"
        q, k, v = (params.linear(f"{layer}.self_attn.{letter}_proj") for letter in "qkv")
        return BlockNames(
            qkv=(q, k, v),
            out=params.linear(f"{layer}.self_attn.out_proj"),
            norm1=f"{layer}.layer_norm1",
            norm2=f"{layer}.layer_norm2",
            fc1=params.linear(f"{layer}.mlp.fc1"),
            fc2=params.linear(f"{layer}.mlp.fc2"),
        )

    return TowerNames(
        patch=f"{root}.embeddings.patch_embedding.weight",
        class_embedding=f"{root}.embeddings.class_embedding",
        positions=f"{root}.embeddings.position_embedding.weight",
        pre_norm=f"{root}.pre_layrnorm",
        post_norm=f"{root}.post_layernorm",
        blocks=tuple(block(at) for at in range(depth)),
    )


def open_clip_names(params: Parameters, root: str, depth: int) -> TowerNames:
    """`root` is "clip_model.visual"."""

    def block(at: int) -> BlockNames:
        layer = f"{root}.transformer.resblocks.{at}"
        return BlockNames(
            qkv=params.thirds(f"{layer}.attn.in_proj_weight", f"{layer}.attn.in_proj_bias"),
            out=params.linear(f"{layer}.attn.out_proj"),
            norm1=f"{layer}.ln_1",
            norm2=f"{layer}.ln_2",
            fc1=params.linear(f"{layer}.mlp.c_fc"),
            fc2=params.linear(f"{layer}.mlp.c_proj"),
        )

    return TowerNames(
        patch=f"{root}.conv1.weight",
        class_embedding=f"{root}.class_embedding",
        positions=f"{root}.positional_embedding",
        pre_norm=f"{root}.ln_pre",
        post_norm=f"{root}.ln_post",
        blocks=tuple(block(at) for at in range(depth)),
    )


def write_tower(
    builder: Builder,
    pixels: Value,
    tower: VisionTower,
    names: TowerNames,
    activation: str,
    class_token_only: bool,
) -> Value:
    """pixel_values [B, 3, H, W] -> states before the last LayerNorm, [B, tokens, width] or [B, 1, width].

    With `class_token_only` the last block computes only what the class token needs.
    """
    x = builder.layer_norm(_embed(builder, pixels, tower, names), names.pre_norm)
    for at, block in enumerate(names.blocks):
        is_last = at == len(names.blocks) - 1
        x = _block(builder, x, block, activation, rows=1 if class_token_only and is_last else None)
    return x if x.shape[1] == 1 or not class_token_only else builder.graph.slice(x, 1, 0, 1)


def write_clip_image(builder: Builder, pixels: Value, clip: Clip, activation: str, normalized: bool) -> Value:
    """CLIP's projected image embedding: [B, 3, H, W] -> [B, embed] float32."""
    graph, params = builder.graph, builder.params
    is_open = clip.form == "open_clip"
    names = (
        open_clip_names(params, "clip_model.visual", clip.vision.depth)
        if is_open
        else transformers_names(params, "clip_model.vision_model", clip.vision.depth)
    )
    states = write_tower(builder, pixels, clip.vision, names, activation, class_token_only=True)
    normed = builder.layer_norm(states, names.post_norm)
    dtype = builder.precision.matmul
    shape = (clip.vision.width, clip.embed)
    if is_open:  # open_clip keeps the projection as [in, out]
        load = params.plain("clip_model.visual.proj", dtype)
    else:
        load = params.matrix([Rows("clip_model.visual_projection.weight", "", 0, clip.embed)], dtype)
    projection = graph.weight("clip_model.visual_projection", dtype, shape, load)
    with graph.scope("clip_model.visual_projection"):
        pooled = graph.cast(graph.pick(normed, 1, 0), dtype)
        feature = graph.cast(graph.matmul(pooled, projection), "float32")
        return builder.normalize(feature) if normalized else feature


def _embed(builder: Builder, pixels: Value, tower: VisionTower, names: TowerNames) -> Value:
    """Patches, the class token before them, positions added in FP32: [B, 3, H, W] -> [B, tokens, width]."""
    graph, params = builder.graph, builder.params
    token = graph.weight(
        names.class_embedding,
        "float32",
        (1, 1, tower.width),
        params.plain(names.class_embedding, "float32", (1, 1, tower.width)),
    )
    positions = graph.weight(
        names.positions, "float32", (tower.tokens, tower.width), params.plain(names.positions, "float32")
    )
    with graph.scope(names.patch):
        patches = _patches(builder, pixels, tower, names.patch)
        token = graph.broadcast(token, (pixels.shape[0], 1, tower.width))
        tokens = graph.concat([token, graph.cast(patches, "float32")], axis=1)
        return graph.add(tokens, positions)


def _patches(builder: Builder, pixels: Value, tower: VisionTower, name: str) -> Value:
    """Windows of [B, 3, H, W] times the kernel: [B, windows, width].

    What is a convolution in the checkpoint is a matrix product here, since windows that do not overlap
    only have to be laid out as rows: TensorRT 10.6 takes 0.09 ms less for CLIP's windows of 32 x 32 on an
    H200 and 0.025 ms less for Kosmos-2's of 14 x 14 (bench/NOTES.md), and has nothing then that it would
    run apart from its fused region. Rows are filled up with zeros to the multiple of 8 that half-precision
    tensor cores sum at once.
    """
    graph, dtype = builder.graph, builder.precision.matmul
    batch, side, patch = pixels.shape[0], tower.image_size // tower.patch, tower.patch
    length = 3 * patch**2
    height = -(-length // TENSOR_CORE_STEP) * TENSOR_CORE_STEP
    load = builder.params.matrix([Rows(name, "", 0, tower.width)], dtype, height)
    weight = graph.weight(name, dtype, (height, tower.width), load)
    # Cast first: of half the size, there is half as much to move.
    rows = graph.reshape(graph.cast(pixels, dtype), (batch, 3, side, patch, side, patch))
    windows = graph.reshape(graph.transpose(rows, (0, 2, 4, 1, 3, 5)), (batch, side**2, length))
    if height > length:
        fill = graph.constant(np.zeros((batch, side**2, height - length), dtype))
        windows = graph.concat([windows, fill], axis=2)
    return graph.matmul(windows, weight)


def _block(builder: Builder, x: Value, names: BlockNames, activation: str, rows: int | None) -> Value:
    """A pre-LayerNorm transformer block: [B, T, C] -> [B, T or rows, C]."""
    graph = builder.graph
    with graph.scope(names.norm1.rpartition(".")[0]):
        normed = builder.layer_norm(x, names.norm1)
        dtype = builder.precision.matmul
        mixed = builder.self_attention(
            graph.cast(normed, dtype), names.qkv, None, names.norm1.rpartition(".")[0] + ".attn", rows
        )
        if rows is not None:
            x = graph.slice(x, 1, 0, rows)
        x = builder.residual(x, builder.linear(mixed, [names.out], names.out.weight.removesuffix(".weight")))
        hidden = builder.linear(
            builder.layer_norm(x, names.norm2), [names.fc1], names.fc1.weight.removesuffix(".weight")
        )
        hidden = builder.activation(hidden, activation)
        return builder.residual(
            x, builder.linear(hidden, [names.fc2], names.fc2.weight.removesuffix(".weight"))
        )
