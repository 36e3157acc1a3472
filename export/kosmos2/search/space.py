"""Which settings are tried: everything that fits a checkpoint's shapes, as far as anybody did it so."""

from __future__ import annotations

from itertools import permutations
from typing import Any, get_args

from msgspec.structs import replace

from vla_edge.export.family_search import Alternative, Axis, Need, Validated
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.settings import (
    FULL_SCALE_MPS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ROBOT_LIMIT_MPS,
    Feature,
    PolicySettings,
)
from vla_edge.export.kosmos2.settings_rules import feature_width

STEPS = 18  # of an episode in the training script
TARGET_LIMIT = 1.0
BATCH_SIZE = 2
CLIP_VOCABULARY = 49408  # CLIP's own tokens, without which there is no text feature of it
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
NOTHING, ALL = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# How a frame becomes pixels: in the training script; in the robot's code; with pixels of 0 to 1; and as the
# processors of Kosmos-2 and CLIP do.
PIXELS: Axis = tuple(
    {"image_resample": resample, "image_mean": mean, "image_std": std}
    for resample, mean, std in (
        ("bilinear", IMAGENET_MEAN, IMAGENET_STD),
        ("lanczos", NOTHING, ALL),
        ("bilinear", NOTHING, ALL),
        ("bicubic", CLIP_MEAN, CLIP_STD),
    )
)
LSTM: Axis = (
    {"lstm": "single"},
    {"lstm": "window", "lstm_window": 8, "lstm_outputs": 1},
    {"lstm": "window", "lstm_window": 8, "lstm_outputs": 2},
    {"lstm": "carried"},
)
SCALES = (FULL_SCALE_MPS, ROBOT_LIMIT_MPS, 1.0)
_KOSMOS_TOKENS = frozenset({"text", "image_projection"})
_CLIP = frozenset({"clip_image", "clip_text"})


def axes(arch: Architecture) -> tuple[Axis, ...]:
    """What may vary for these shapes; settings of different axes go with each other."""
    return (
        PIXELS,
        tuple({"features": features} for features in feature_sets(arch)),
        _values("pooling", "max", "mean", "last"),
        _values("prompt", "image_first", "image_first_grounding"),
        _values("projection_attention", "full", "causal"),
        _values("clip_feature", "projected", "projected_normalized"),
        _values("clip_activation", "quick_gelu", "gelu"),
        LSTM,
        _values("final_tanh", False, True),
        _values("frame", "first", "current"),
        _values("action_scale", *((scale,) * arch.action_size for scale in SCALES)),
    )


def feature_sets(arch: Architecture) -> tuple[tuple[Feature, ...], ...]:
    """All features, each at most once and in every order, whose widths add up to what the fusion or LSTM takes."""
    wanted = arch.fusion[0] if arch.fusion else arch.lstm.input
    widths = {feature: _width(arch, feature) for feature in get_args(Feature)}
    there = [feature for feature, width in widths.items() if width]
    return tuple(
        chosen
        for count in range(1, len(there) + 1)
        for chosen in permutations(there, count)
        if sum(widths[feature] for feature in chosen) == wanted
    )


def canonical(settings: PolicySettings) -> PolicySettings:
    """The same forward pass, with what has no effect at its default."""
    used = set(settings.features)
    idle: set[str] = set()
    if not used & _KOSMOS_TOKENS:
        idle |= {"pooling", "projection_attention"}
    if "text" not in used:
        idle.add("prompt")
    if not used & _CLIP:
        idle |= {"clip_feature", "clip_activation"}
    if settings.lstm != "window":
        idle |= {"lstm_window", "lstm_outputs"}
    default = PolicySettings()
    return replace(settings, **{name: getattr(default, name) for name in idle})


def pixels_of(settings: PolicySettings) -> str:
    """Names what the backbones see of a frame."""
    numbers = ",".join(f"{number:g}" for number in (*settings.image_mean, *settings.image_std))
    return f"{settings.image_resample} {numbers}"


def needs(settings: PolicySettings) -> tuple[Need, ...]:
    """An output of the backbones for each feature, in the order of the features."""
    return tuple(_need(settings, feature) for feature in settings.features)


def _need(settings: PolicySettings, feature: Feature) -> Need:
    pixels, pooling = pixels_of(settings), settings.pooling
    if feature == "vision":
        return Need(f"vision {pixels}", "vision")
    if feature == "clip_image":
        return Need(f"clip_image {settings.clip_activation} {pixels}", "clip_image")
    if feature == "clip_text":
        return Need(f"clip_text {settings.clip_activation}", "clip_text")
    run = f"tokens {settings.projection_attention} {pixels}"
    if feature == "image_projection":
        return Need(run, f"image_projection {pooling}")
    return Need(run, f"text {settings.prompt} {settings.image_start} {pooling}")


def validated_on(arch: Architecture) -> Validated:
    """The pure policy's script took all episodes, the hybrids' a fifth by `random_split` without a seed."""
    return "fifth" if arch.clip else "all"


def _values(name: str, *values: Any) -> Axis:
    alternatives: list[Alternative] = [{name: value} for value in values]
    return tuple(alternatives)


def _width(arch: Architecture, feature: Feature) -> int:
    if feature == "clip_text" and arch.clip and arch.clip.text.vocabulary < CLIP_VOCABULARY:
        return 0
    return feature_width(arch, feature)
