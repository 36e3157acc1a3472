"""The forward pass as settings: what a checkpoint does not say about how it was used.

A state dict fixes shapes, not behaviour: which token states are pooled, whether the last activation is
a tanh, how outputs become metres per second. Each such choice is a field here, with the default that
the training code makes likeliest, and its standing ("exact", "likely", "unknown") goes into the
manifest beside the value and its origin. Nothing about the forward pass is decided anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from vla_edge.runtime.bundle.manifest import MAX_INSTRUCTIONS

from .architecture import Architecture

Feature = Literal["text", "image_projection", "vision", "clip_image", "clip_text"]
ProjectionAttention = Literal["full", "causal"]

FULL_SCALE_MPS = 2.0  # training targets were action / 2.0, clipped to +-1
ROBOT_LIMIT_MPS = 1.15
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEFT = "가장 왼쪽 외곽으로 돌아 컵까지 가세요"
RIGHT = "가장 오른쪽 외곽으로 돌아 컵까지 가세요"
STRAIGHT = "컵까지 가세요"

Per3 = tuple[float, float, float]
NonEmpty = Annotated[str, Meta(min_length=1, max_length=200)]


class PolicySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every choice of the forward pass. `defaults_for` gives the values for an architecture."""

    frame: Literal["current", "first"] = "current"
    features: Annotated[tuple[Feature, ...], Meta(min_length=1)] = ("text",)
    pooling: Literal["max", "mean", "last"] = "max"
    prompt: Literal["image_first", "image_first_grounding"] = "image_first"
    image_start: Annotated[int, Meta(ge=0, le=64)] = 2
    projection_attention: ProjectionAttention = "full"
    clip_feature: Literal["projected", "projected_normalized"] = "projected"
    clip_activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    lstm: Literal["single", "window", "carried"] = "single"
    lstm_window: Annotated[int, Meta(ge=1, le=64)] = 8
    lstm_outputs: Annotated[int, Meta(ge=1, le=64)] = 1
    final_tanh: bool = False
    image_mean: Per3 = IMAGENET_MEAN
    image_std: Per3 = IMAGENET_STD
    image_resample: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    action_names: tuple[NonEmpty, ...] = ("linear_x", "linear_y")
    action_scale: tuple[float, ...] = (FULL_SCALE_MPS, FULL_SCALE_MPS)
    action_offset: tuple[float, ...] = (0.0, 0.0)
    action_limit: tuple[Annotated[float, Meta(gt=0)], ...] = (ROBOT_LIMIT_MPS, ROBOT_LIMIT_MPS)
    instructions: Annotated[tuple[NonEmpty, ...], Meta(min_length=1, max_length=MAX_INSTRUCTIONS)] = (
        STRAIGHT,
        LEFT,
        RIGHT,
    )
    default_instruction: NonEmpty = STRAIGHT


STANDING: Mapping[str, str] = {
    "frame": (
        "unknown: in training an episode's first frame most likely answered for all its steps; first does so on the "
        "robot (one image predicts the whole sequence: its action is held until reset), current acts on each frame"
    ),
    "features": "unknown: no learned projection exists, so token states of these widths are what fits",
    "pooling": "likely: AdaptiveMaxPool1d in the training code; siblings use mean",
    "prompt": "unknown: Kosmos-2 form, image first, then the instruction",
    "image_start": "exact: Kosmos2Processor writes <s> <image> before the image tokens",
    "projection_attention": (
        "unknown: full as published and in transformers before 4.52; its default attention since makes it "
        "causal by mistake (its pull request 39037), and a policy trained on that needs the same"
    ),
    "clip_feature": "likely: pooled, projected image embedding",
    "clip_activation": "likely: quick_gelu for OpenAI's ViT-B/32, gelu for open_clip's own",
    "lstm": "likely: one step from a zero state",
    "lstm_window": "unknown: 8 where a window is used",
    "lstm_outputs": "unknown: 2 where a window is used",
    "final_tanh": "likely on for the pure policy (RoboVLMs MLPTanhHead), unknown and off for the hybrid",
    "image_mean": "exact: training transform",
    "image_std": "exact: training transform",
    "image_resample": "exact: training transform, PIL bilinear",
    "action_names": "exact: two linear velocities, no rotation",
    "action_scale": "exact: targets were action / 2.0",
    "action_offset": "exact: none in training",
    "action_limit": "exact: the robot moves within +-1.15 m/s",
    "instructions": "exact: the training data's",
    "default_instruction": "exact: the training data's",
}


def defaults_for(arch: Architecture) -> dict[str, Any]:
    """The defaults that depend on the layout; all others are the fields' own."""
    features: dict[str, tuple[Feature, ...]] = {
        "pure": ("text",),
        "hybrid-a": ("text", "clip_image"),
        "hybrid-b": ("vision", "clip_image"),
        "hybrid-c": ("vision", "clip_image", "clip_text"),
    }
    is_open_clip = arch.clip is not None and arch.clip.form == "open_clip"
    return {
        "features": features[arch.layout],
        "final_tanh": arch.layout == "pure",
        "clip_activation": "gelu" if is_open_clip else "quick_gelu",
    }
