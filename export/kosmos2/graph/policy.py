"""The whole graph of a policy, from pixels and token ids to actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor

from vla_edge.export.family import GraphRequest, Prompts
from vla_edge.export.graph.layers import Builder
from vla_edge.export.graph.parameters import Parameters
from vla_edge.export.graph.precision import Precision
from vla_edge.export.graph.writer import GraphWriter, Value
from vla_edge.export.kosmos2.architecture import HEAD_SIZE, Architecture
from vla_edge.export.kosmos2.settings import PolicySettings

from .action import write_head, write_lstm
from .decoder import PROJECTION, ROOT, PromptShape, write_image_projection, write_pool, write_text
from .vision import transformers_names, write_clip_image, write_tower

if TYPE_CHECKING:
    from vla_edge.export.kosmos2.reference import VlaPolicy

VISION_ROOT = "kosmos_model.vision_model.model"
VISION_ACTIVATION = "quick_gelu"
FUSION = "feature_fusion"
CLIP_TEXT = "clip_text_features"


@dataclass(frozen=True)
class GraphOptions:
    """What the graph depends on beside the architecture and its settings.

    Attributes:
        precision: dtypes by role.
        prompt: the token sequence's shape.
        batch: frames per call, static.
        clip_text: CLIP text features of the declared instructions, float32 [N, embed], where they are used.
    """

    precision: Precision
    prompt: PromptShape
    batch: int = 1
    clip_text: np.ndarray | None = None


def requested_graph(request: GraphRequest) -> GraphWriter:
    """The graph that an export asks for."""
    prompts = cast(Prompts, request.prompts)  # every policy of this family has them
    shape = PromptShape(prompts.prompt.length, prompts.prompt.image_start, prompts.kept_ids)
    table = None
    if "clip_text" in request.settings.features:
        policy = cast("VlaPolicy", request.policy)
        table = policy.clip_text(policy.clip_ids).detach().numpy()
    options = GraphOptions(request.precision, shape, request.batch, table)
    return write_policy(request.architecture, request.settings, request.tensors, options)


def write_policy(
    arch: Architecture, settings: PolicySettings, tensors: Mapping[str, Tensor], options: GraphOptions
) -> GraphWriter:
    """Write the graph; weights stay recipes until the data file is written.

    Inputs: `pixel_values` float32 [B, 3, H, W]; `input_ids` and `attention_mask` int32 [B, L] where text is
    used; `instruction_index` int32 [B] where CLIP's text feature is; `h_in`, `c_in` where state is carried.
    Output: `actions` float32 [B, steps, size], before scale and offset (and `h_out`, `c_out`).
    """
    graph = GraphWriter()
    builder = Builder(graph, Parameters(tensors), options.precision, HEAD_SIZE)
    side = arch.vision.image_size
    pixels = graph.input("pixel_values", "float32", (options.batch, 3, side, side))
    features = _features(builder, pixels, arch, settings, options)
    with graph.scope(FUSION):
        fused = graph.concat([graph.cast(features[name], "float32") for name in settings.features], axis=1)
        if arch.fusion:
            fused = graph.cast(builder.linear(fused, [builder.params.linear(FUSION)], FUSION), "float32")
            graph.stage("fusion", fused)
            graph.cut("fusion")
    hidden = write_lstm(builder, fused, arch, settings)
    actions = write_head(builder, hidden, arch.head, settings.final_tanh)
    graph.stage("action", graph.output("actions", actions))
    return graph


def _features(
    builder: Builder, pixels: Value, arch: Architecture, settings: PolicySettings, options: GraphOptions
) -> dict[str, Value]:
    graph, wanted = builder.graph, set(settings.features)
    values: dict[str, Value] = {}
    if wanted & {"text", "image_projection"}:
        values |= _kosmos_features(builder, pixels, arch, settings, options)
    elif "vision" in wanted:
        states = _vision_states(builder, pixels, arch, class_token_only=True)
        values["vision"] = graph.stage("vision", _class_token(builder, states))
        graph.cut("vision")
    if "clip_image" in wanted and arch.clip:
        normalized = settings.clip_feature == "projected_normalized"
        feature = write_clip_image(builder, pixels, arch.clip, settings.clip_activation, normalized)
        values["clip_image"] = graph.stage("clip", feature)
        graph.cut("clip")
    if "clip_text" in wanted and options.clip_text is not None:
        # The instructions are known, so CLIP's text tower is a table with a row for each.
        table = options.clip_text.astype(np.float32)
        rows = graph.weight(CLIP_TEXT, "float32", table.shape, lambda: table)
        index = graph.input("instruction_index", "int32", (options.batch,))
        with graph.scope(CLIP_TEXT):
            values["clip_text"] = graph.gather_rows(rows, index)
    return values


def _kosmos_features(
    builder: Builder, pixels: Value, arch: Architecture, settings: PolicySettings, options: GraphOptions
) -> dict[str, Value]:
    graph, wanted = builder.graph, settings.features
    values: dict[str, Value] = {}
    states = _vision_states(builder, pixels, arch, class_token_only=False)
    if "vision" in wanted:
        values["vision"] = _class_token(builder, states)
    image = write_image_projection(builder, states, arch, settings.projection_attention)
    image = graph.stage("vision", image)
    if "image_projection" in wanted:
        values["image_projection"] = write_pool(builder, image, None, settings.pooling, PROJECTION)
    graph.cut("vision")
    if "text" in wanted:
        shape = (options.batch, options.prompt.length)
        ids, mask = graph.input("input_ids", "int32", shape), graph.input("attention_mask", "int32", shape)
        text = write_text(builder, image, ids, arch, options.prompt)
        values["text"] = graph.stage("text", write_pool(builder, text, mask, settings.pooling, ROOT))
        graph.cut("text")
    return values


def _vision_states(builder: Builder, pixels: Value, arch: Architecture, class_token_only: bool) -> Value:
    """Kosmos-2's image states after the last LayerNorm: [B, tokens or 1, width] float32."""
    names = transformers_names(builder.params, VISION_ROOT, arch.vision.depth)
    states = write_tower(builder, pixels, arch.vision, names, VISION_ACTIVATION, class_token_only)
    return builder.layer_norm(states, names.post_norm)


def _class_token(builder: Builder, states: Value) -> Value:
    """[B, tokens, C] -> [B, C]."""
    with builder.graph.scope(f"{VISION_ROOT}.class_token"):
        return builder.graph.pick(states, 1, 0)
