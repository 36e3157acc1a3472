"""How the names of each stage's modules begin; nodes of the graph are named after them."""

from __future__ import annotations

from collections.abc import Mapping

# The projection belongs to vision, since parity measures that stage behind it, too; CLIP's text feature is a table in
# a graph.
STAGE_PATTERNS: Mapping[str, str] = {
    "vision": r"kosmos_model\.(?:vision_model|image_to_text_projection)",
    "text": r"kosmos_model\.text_model",
    "clip": r"clip_model\.\w|clip_text_features",
    "fusion": r"feature_fusion",
    "lstm": r"rnn|[hc]_(?:in|out)",
    "head": r"actions",
}
# modules inside a stage's that the policy also calls by themselves
CALLED_ALONE = (
    "kosmos_model.text_model.model.embed_tokens",
    "kosmos_model.vision_model.model.post_layernorm",
)
